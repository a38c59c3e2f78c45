import { useRef, useState } from "preact/hooks";
import { useView } from "../view/hooks";

/** How an answer that a person gives in a row stands. */
export interface Answering {
  readonly sending: boolean;
  /** Why the last one did not work. */
  readonly failed: string | null;
  /** Gives one, by what says why that did not work; nothing where one is under way. */
  readonly answer: (give: () => Promise<string | null>) => void;
}

export function useAnswer(): Answering {
  const { goOn } = useView();
  const [sending, setSending] = useState(false);
  const [failed, setFailed] = useState<string | null>(null);
  const underWay = useRef(false); // a second click may come before the next drawing
  const answer = (give: () => Promise<string | null>) => {
    if (underWay.current) return;
    underWay.current = true;
    setSending(true);
    setFailed(null);
    void give().then((why) => {
      if (why === null) return goOn(); // the row tells how it goes on
      underWay.current = false;
      setSending(false);
      setFailed(why);
    });
  };
  return { sending, failed, answer };
}
