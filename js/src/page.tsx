import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { newKey } from "./ids";
import { lend } from "./lend";
import type { Lease } from "./session/registry";
import type { Session } from "./session/session";
import { ChatWidget } from "./view/ChatWidget";
import { Icon } from "./view/icons";

const VALID = /^(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

/** The conversation lives in the address: a bookmark or a reload finds it again. */
function inAddress(): string | null {
  const id = new URL(location.href).searchParams.get("conv_id");
  return id !== null && VALID.test(id) ? id : null;
}

function addressOf(convId: string | null): string {
  const url = new URL(location.href);
  if (convId === null) url.searchParams.delete("conv_id");
  else url.searchParams.set("conv_id", convId);
  return url.href;
}

function Page() {
  const [convId, setConvId] = useState(() => inAddress() ?? newKey());
  const [lease, setLease] = useState<Lease<Session> | null>(null);
  const profile = new URL(location.href).searchParams.get("profile") || "default";
  useEffect(() => {
    const mine = lend(convId, profile);
    setLease(mine);
    return () => mine.release();
  }, [convId, profile]);
  useEffect(() => {
    const moved = () => setConvId(inAddress() ?? newKey());
    addEventListener("popstate", moved);
    return () => removeEventListener("popstate", moved);
  }, []);

  const begin = () => {
    if (inAddress() !== null) history.pushState(null, "", addressOf(null));
    setConvId(newKey());
  };
  if (lease?.value.convId !== convId) return null;
  const header = (
    <header class="wc-header" data-part="header">
      <h1>Chat</h1>
      <button type="button" class="wc-button" data-part="new-button" onClick={begin}>
        <Icon name="plus" /> New conversation
      </button>
    </header>
  );
  return (
    <ChatWidget
      key={convId}
      session={lease.value}
      profile={profile}
      header={header}
      onSend={() => {
        // minted on this page: the first prompt makes it an address
        if (inAddress() === null) history.replaceState(null, "", addressOf(convId));
      }}
    />
  );
}

const root = document.getElementById("webchat-page");
if (root) {
  // it has done its work, and an address gets bookmarked and shared
  const url = new URL(location.href);
  if (url.searchParams.has("token")) {
    url.searchParams.delete("token");
    history.replaceState(null, "", url);
  }
  document.body.classList.add("webchat-page");
  render(<Page />, root);
}
