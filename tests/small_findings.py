"""A few findings, on images of which one class has a hostile name."""

import numpy as np

from recog.data.dataset import Dataset, Sample
from recog.doctor.findings import Finding, Findings, Shortcut

HOSTILE = "</script><script>alert(1)</script>"


def dataset(names):
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    splits = ["train", "test"]
    samples = tuple(
        Sample(name=name, source=image, labels=(i % 2,), split=splits[i % 2]) for i, name in enumerate(names)
    )
    return Dataset(name="d", layout="folders", class_names=("cat", HOSTILE), samples=samples)


def findings(num_images=4, *, found=None, names=None):
    names = names or [f"x/{i}.png" for i in range(num_images)]
    found = found or (
        Finding(kind="leak", reason="identical files", images=(0, 1), score=1.0, actions={0: "exclude"}),
        Finding(kind="label_error", reason="looks like", images=(2,), score=0.9, suggested_label=HOSTILE),
        Finding(kind="small_class", reason="'cat' has 2 images"),
    )
    shortcut = Shortcut(fact="file size", auroc=0.7, worst_auroc=0.9, worst_class=HOSTILE)
    samples = dataset(names).samples
    return Findings(
        data="d",
        task="multiclass",
        class_names=("cat", HOSTILE),
        names=tuple(names),
        labels=tuple(("cat", HOSTILE)[sample.label] for sample in samples),
        splits=tuple(sample.split for sample in samples),
        findings=found,
        shortcuts=(shortcut,),
        notes=("dark: 3 of 4 images",),
    )
