// Logits of one image by ONNX Runtime's C++ API: g++ -std=c++17 -O2 predict.cpp -lonnxruntime && ./a.out model.onnx pixels
// `pixels` holds the bytes of uint8 [H, W, C] as contract.json describes them; predict.py's Model.read writes the same.
#include <onnxruntime_cxx_api.h>

#include <cstdint>
#include <fstream>
#include <iostream>
#include <iterator>
#include <vector>

int main(int argc, char** argv) {
  if (argc != 3) return std::cerr << "usage: " << argv[0] << " model.onnx pixels\n", 2;
  Ort::Env env(ORT_LOGGING_LEVEL_WARNING, "recog");
  Ort::Session session(env, argv[1], Ort::SessionOptions{});  // on Windows the path is wchar_t
  std::vector<int64_t> shape = session.GetInputTypeInfo(0).GetTensorTypeAndShapeInfo().GetShape();
  shape[0] = 1;  // images in this batch
  std::ifstream file(argv[2], std::ios::binary);
  std::vector<uint8_t> pixels{std::istreambuf_iterator<char>(file), {}};
  auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  auto images = Ort::Value::CreateTensor<uint8_t>(memory, pixels.data(), pixels.size(), shape.data(), shape.size());
  const char* inputs[] = {"images"};
  const char* outputs[] = {"logits"};
  auto results = session.Run(Ort::RunOptions{}, inputs, &images, 1, outputs, 1);
  const float* logits = results[0].GetTensorData<float>();
  const size_t num_classes = results[0].GetTensorTypeAndShapeInfo().GetElementCount();
  for (size_t k = 0; k < num_classes; ++k) std::cout << logits[k] << '\n';
}
