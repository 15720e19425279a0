import { expect, it } from "vitest";
import { keepToken, openSession, tokenOfFragment, userOfToken } from "../src/session.ts";

it.each([
  ["#token=abc.def-_", "abc.def-_"],
  ["#other=1&token=x", "x"],
  ["#token=", null],
  ["#", null],
  ["", null],
])("finds in %s the token %s", (fragment, token) => expect(tokenOfFragment(fragment)).toBe(token));

it("takes the token out of the address bar and keeps it for this tab", () => {
  history.replaceState(null, "", "/?x=1#token=secret");
  expect(openSession()).toBe("secret");
  expect(location.href).not.toContain("secret");
  expect(location.search).toBe("?x=1");
  expect(openSession()).toBe("secret");
  keepToken(null);
  expect(openSession()).toBeNull();
});

it.each([
  [`x.${btoa(JSON.stringify({ sub: "demo" }))}.x`, "demo"],
  ["x.eyJzdWIiOiJKw7xyZ2VuIn0.x", "Jürgen"],
  [`x.${btoa(JSON.stringify({ sub: 5 }))}.x`, null],
  ["x.%%%.x", null],
  ["no token", null],
])("shows of %s the user %s", (token, user) => expect(userOfToken(token)).toBe(user));
