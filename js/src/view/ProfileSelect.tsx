import { useEffect } from "preact/hooks";
import { useSignalValue, useView } from "./hooks";

/** Which profile the next prompt goes to, where there is a choice. One that is not there any more says so. */
export function ProfileSelect({ ended, onPick }: { ended: boolean; onPick: (slug: string) => void }) {
  const { session, profile } = useView();
  const profiles = useSignalValue(session.profiles);
  const known = profiles.some(({ slug }) => slug === profile);
  useEffect(() => {
    // the host may have one more since this page asked: it is made in Python, and named by the widget
    if (profiles.length > 0 && !known) session.askProfiles();
  }, [session, profile]);
  if (profile === "" || profiles.length === 0 || (known && profiles.length === 1)) return null;
  return (
    <select
      class="wc-profile"
      data-part="profile-select"
      aria-label="Profile"
      title="Profile of the next prompt"
      value={profile}
      disabled={ended}
      onFocus={() => session.askProfiles()}
      onChange={({ currentTarget }) => onPick(currentTarget.value)}
    >
      {!known && <option value={profile}>{profile} (gone)</option>}
      {profiles.map(({ slug, name }) => (
        <option key={slug} value={slug}>
          {name}
        </option>
      ))}
    </select>
  );
}
