// Requests to the device. A refusal becomes an Error whose message can be shown as it is.

export class Refused extends Error {
  constructor(status, said) {
    super(said.error || "This failed");
    this.status = status;
    this.reasons = said.reasons || {};
  }
}

async function answered(response) {
  if (response.ok) return response.json();
  let said = {};
  try { said = await response.json(); } catch { /* no JSON: the status says enough */ }
  throw new Refused(response.status, said);
}

export const get = async (path) => answered(await fetch(path));

export async function send(method, path, content) {
  const body = content === undefined ? undefined : JSON.stringify(content);
  return answered(await fetch(path, { method, body, headers: body ? { "Content-Type": "application/json" } : {} }));
}

export const upload = async (path, body, headers = {}) => answered(await fetch(path, { method: "POST", body, headers }));

export async function picture(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Refused(response.status, {});
  return response.blob();
}

// Asks again where the device is busy, a few times.
export async function patiently(ask) {
  for (let pause = 400; ; pause += 400) {
    try { return await ask(); } catch (error) {
      if (error.status !== 429 || pause > 2000) throw error;
      await new Promise((go) => setTimeout(go, pause));
    }
  }
}

export const query = (values) => "?" + new URLSearchParams(values);
