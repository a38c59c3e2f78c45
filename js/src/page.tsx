import { render } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { findServer } from "./environment";
import { Api } from "./http/api";
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

function profileInAddress(): string {
  return new URL(location.href).searchParams.get("profile") ?? "";
}

function addressWith(name: "conv_id" | "profile", value: string | null): string {
  const url = new URL(location.href);
  if (value === null) url.searchParams.delete(name);
  else url.searchParams.set(name, value);
  return url.href;
}

/** The profile that the address names, else the one that this browser has chosen; "" as long as nobody has said. */
function useProfile(): [string, (slug: string) => void] {
  const [profile, setProfile] = useState(profileInAddress);
  const api = useMemo(() => new Api(findServer()), []);
  useEffect(() => {
    if (profile !== "") return;
    const asking = new AbortController();
    const known = (slug: string) => setProfile((picked) => picked || slug);
    api.chosenProfile(asking.signal).then(known, () => {
      if (!asking.signal.aborted) known("default");
    });
    return () => asking.abort();
  }, [api, profile]);
  const pick = (slug: string) => {
    setProfile(slug);
    if (profileInAddress() !== "") history.replaceState(null, "", addressWith("profile", slug));
    // each prompt names it in any case; this is for the next page
    api.chooseProfile(slug).catch(() => {});
  };
  return [profile, pick];
}

function Page() {
  const [convId, setConvId] = useState(() => inAddress() ?? newKey());
  const [lease, setLease] = useState<Lease<Session> | null>(null);
  const [profile, pick] = useProfile();
  useEffect(() => {
    const mine = lend(convId);
    setLease(mine);
    return () => mine.release();
  }, [convId]);
  useEffect(() => {
    const moved = () => setConvId(inAddress() ?? newKey());
    addEventListener("popstate", moved);
    return () => removeEventListener("popstate", moved);
  }, []);

  const begin = () => {
    if (inAddress() !== null) history.pushState(null, "", addressWith("conv_id", null));
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
      onProfile={pick}
      header={header}
      onSend={() => {
        // minted on this page: the first prompt makes it an address
        if (inAddress() === null) history.replaceState(null, "", addressWith("conv_id", convId));
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
