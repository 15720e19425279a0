/**
 * Return what an archive is called if its maker says nothing: as the folder that all files are in, else by the day.
 *
 * @param names the files' paths.
 */
export function archiveName(names: readonly string[], now: Date): string {
  const [first = "", ...others] = names.map((name) => (name.includes("/") ? name.slice(0, name.indexOf("/")) : ""));
  if (first !== "" && others.every((folder) => folder === first)) return `${first}.zip`;
  const day = [now.getFullYear(), now.getMonth() + 1, now.getDate()].map((part) => String(part).padStart(2, "0"));
  return `files ${day.join("-")}.zip`;
}
