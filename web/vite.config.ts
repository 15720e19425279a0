import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

export default defineConfig({
  plugins: [react()],
  // The client's source rather than what was built of it.
  resolve: { conditions: ["haulyard-source", "module", "browser", "development|production"] },
  build: {
    outDir: "../services/gateway/src/haulyard_gateway/static",
    emptyOutDir: true,
    // The page's Content-Security-Policy allows files of its own origin, and no data: URLs.
    assetsInlineLimit: 0,
    sourcemap: false,
  },
  // `npm run dev` beside `make up`: the page from here, the API from there.
  server: { proxy: { "/v1": "http://127.0.0.1:8080" } },
  test: { environment: "jsdom", restoreMocks: true, setupFiles: ["test/setup.ts"] },
});
