import js from "@eslint/js";
import hooks from "eslint-plugin-react-hooks";
import { defineConfig, globalIgnores } from "eslint/config";
import types from "typescript-eslint";

export default defineConfig([
  globalIgnores(["**/dist/**", "**/static/**", "**/.venv/**", "**/.haulyard/**"]),
  {
    files: ["clients/react/**/*.{ts,tsx}", "web/**/*.{ts,tsx}"],
    extends: [js.configs.recommended, types.configs.strictTypeChecked, hooks.configs.flat["recommended-latest"]],
    languageOptions: { parserOptions: { projectService: true } },
    rules: {
      // A handler that says nothing returns nothing, also when what it calls returns something.
      "@typescript-eslint/no-confusing-void-expression": ["error", { ignoreArrowShorthand: true }],
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
    },
  },
]);
