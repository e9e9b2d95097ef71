// The pack's templates by name: the server lists them as its file system does, which is in no order.
import { api } from "../../scripts/api.js";

const PACK = decodeURIComponent(new URL(import.meta.url).pathname.split("/").at(-2));
const listed = api.getWorkflowTemplates;

api.getWorkflowTemplates = async function (...given) {
  const templates = await listed.apply(this, given);
  templates[PACK]?.sort();
  return templates;
};
