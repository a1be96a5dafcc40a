// How the page asks for answers. Another page can put a module with the same two functions in its place.

const MAX_RETRIES = 5;

/** The models that are served: [{name, version, class_names, task, has_report, max_images, max_body_bytes, ...}]. */
export async function listModels() {
  const reply = await fetch("models");
  if (!reply.ok) throw new Error(await errorOf(reply));
  return reply.json();
}

/** The answers for files, in order: objects as POST /predict gives them, each with `error` where there is none. */
export async function classify(model, files, { explain = false } = {}) {
  const form = new FormData();
  for (const file of files) form.append("image", file, file.name || "image");
  for (let attempt = 0; ; attempt++) {
    const query = `model=${encodeURIComponent(model.name)}${explain ? "&explain=true" : ""}`;
    const reply = await fetch(`predict?${query}`, { method: "POST", body: form });
    if (reply.ok) return (await reply.json()).predictions;
    if (reply.status !== 503 || attempt === MAX_RETRIES) {
      const error = await errorOf(reply);
      return files.map((file) => ({ name: file.name, error }));
    }
    await new Promise((done) => setTimeout(done, 1000 * Number(reply.headers.get("Retry-After") || 1)));
  }
}

async function errorOf(reply) {
  try {
    return (await reply.json()).error;
  } catch {
    return `The service answered with status ${reply.status}.`;
  }
}
