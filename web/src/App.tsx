import { createClient, HaulyardProvider } from "@haulyard/react";
import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import icon from "./icon.svg";
import { FilesPanel } from "./FilesPanel.tsx";
import { JobsPanel } from "./JobsPanel.tsx";
import { keepToken, openSession, userOfToken } from "./session.ts";
import { SignIn } from "./SignIn.tsx";
import { useJobs } from "./useJobs.ts";
import { useOnline } from "./useOnline.ts";

export function App({ initialToken }: { initialToken: string | null }) {
  const [token, setToken] = useState(initialToken);
  const [notice, setNotice] = useState<string | null>(null);

  const change = useCallback((next: string | null, why: string | null) => {
    keepToken(next);
    setToken(next);
    setNotice(why);
  }, []);
  // A link with a token that is opened where the page is already open changes nothing but the fragment.
  useEffect(() => {
    const enter = () => setToken(openSession());
    addEventListener("hashchange", enter);
    return () => removeEventListener("hashchange", enter);
  }, []);
  const signOut = useCallback((why: string | null) => change(null, why), [change]);
  if (token === null) return <SignIn notice={notice} onToken={(entered) => change(entered, null)} />;
  return <SignedIn key={token} token={token} onSignOut={signOut} />;
}

function SignedIn({ token, onSignOut }: { token: string; onSignOut: (why: string | null) => void }) {
  const client = useMemo(
    () =>
      createClient({
        token,
        onUnauthorized: () => onSignOut("Your token is not valid, or no longer. Sign in again."),
      }),
    [token, onSignOut],
  );
  return (
    <HaulyardProvider client={client}>
      <Header user={userOfToken(token)} onSignOut={() => onSignOut(null)} />
      <Workplace />
    </HaulyardProvider>
  );
}

function Header({ user, onSignOut }: { user: string | null; onSignOut: () => void }) {
  return (
    <header className="top">
      <h1 className="brand">
        <img src={icon} alt="" width={28} height={28} /> Haulyard
      </h1>
      <nav className="top-links" aria-label="Account">
        <a href="/docs">API</a>
        {user !== null && <span className="user">{user}</span>}
        <button type="button" className="hy-button quiet" onClick={onSignOut}>
          Sign out
        </button>
      </nav>
    </header>
  );
}

function Workplace() {
  const isOnline = useOnline();
  const jobs = useJobs();
  const jobsHeading = useRef<HTMLHeadingElement>(null);

  return (
    <>
      <div role="status">
        {!isOnline && (
          <p className="banner">You are offline. Jobs go on without you; this page catches up by itself.</p>
        )}
      </div>
      <main className="panels">
        <FilesPanel
          onStarted={(jobId) => {
            jobs.add(jobId);
            jobsHeading.current?.scrollIntoView({ block: "nearest" });
          }}
        />
        <JobsPanel jobs={jobs} heading={jobsHeading} />
      </main>
    </>
  );
}
