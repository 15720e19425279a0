import { expect, it } from "vitest";
import { archiveName } from "../src/archiveName.ts";

it.each([
  [["a/b.txt"], "a.zip"],
  [["a/b.txt", "a/c/d.txt"], "a.zip"],
  [["a/b.txt", "b/b.txt"], "files 2026-03-07.zip"],
  [["b.txt"], "files 2026-03-07.zip"],
  [["/b.txt"], "files 2026-03-07.zip"],
])("calls an archive of %s %s", (names, name) => expect(archiveName(names, new Date(2026, 2, 7))).toBe(name));
