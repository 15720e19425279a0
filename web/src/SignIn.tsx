import { useState } from "react";
import icon from "./icon.svg";

export function SignIn({ notice, onToken }: { notice: string | null; onToken: (token: string) => void }) {
  const [entered, setEntered] = useState("");
  return (
    <main className="sign-in">
      <h1 className="brand">
        <img src={icon} alt="" width={28} height={28} /> Haulyard
      </h1>
      <p>Many files as one ZIP, built inside the object store.</p>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          const token = entered.trim().replace(/^Bearer\s+/i, "");
          if (token !== "") onToken(token);
        }}
      >
        <label htmlFor="token">Access token</label>
        <input
          id="token"
          type="password"
          autoComplete="off"
          spellCheck={false}
          required
          value={entered}
          onChange={(event) => setEntered(event.target.value)}
        />
        {notice !== null && (
          <p className="hy-problem" role="alert">
            {notice}
          </p>
        )}
        <button type="submit" className="hy-button hy-button-primary">
          Sign in
        </button>
      </form>
      <p className="hint">
        Your identity provider issues it. In development, open the link that <code>make up</code> prints. The token
        stays in this tab.
      </p>
    </main>
  );
}
