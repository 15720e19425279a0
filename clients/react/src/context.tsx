/** The client that hooks and components below use, so that it is said once where the API is and who is asking. */

import { createContext, useContext, type ReactNode } from "react";
import { createClient, type HaulyardClient } from "./client.ts";

const Context = createContext<HaulyardClient>(createClient());

export function HaulyardProvider({ client, children }: { client: HaulyardClient; children: ReactNode }) {
  return <Context.Provider value={client}>{children}</Context.Provider>;
}

/** The client of the nearest provider; without one, the API of the page's own origin, without a token. */
export function useHaulyard(): HaulyardClient {
  return useContext(Context);
}
