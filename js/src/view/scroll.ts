const NEAR = 32;

/**
 * Keeps a scroller at its end while its content grows, unless a person has scrolled away. It acts when sizes
 * change, after layout and before paint, so following costs no extra layout and never shows a jump.
 */
export class Follower {
  readonly #scroller: HTMLElement;
  readonly #away: (away: boolean) => void;
  readonly #sizes: ResizeObserver;
  readonly #listening = new AbortController();
  #following = true;
  #hold: number | null = null;

  constructor(scroller: HTMLElement, content: HTMLElement, away: (away: boolean) => void) {
    this.#scroller = scroller;
    this.#away = away;
    this.#sizes = new ResizeObserver(() => this.#resized());
    this.#sizes.observe(scroller);
    this.#sizes.observe(content);
    const { signal } = this.#listening;
    scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true, signal });
    // a wheel upwards counts at once, or the next growth would take it back
    scroller.addEventListener("wheel", (event) => event.deltaY < 0 && this.#leave(), {
      passive: true,
      signal,
    });
  }

  toEnd(): void {
    this.#set(true);
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
  }

  /** Rows will come in at the top: what is on the screen shall stay where it is. */
  holdPlace(): void {
    this.#hold = this.#scroller.scrollHeight - this.#scroller.scrollTop;
    this.#set(false);
  }

  close(): void {
    this.#sizes.disconnect();
    this.#listening.abort();
  }

  #resized(): void {
    const { scrollHeight } = this.#scroller;
    if (this.#hold !== null) {
      this.#scroller.scrollTop = scrollHeight - this.#hold;
      this.#hold = null;
    } else if (this.#following) {
      this.#scroller.scrollTop = scrollHeight;
    } else {
      this.#scrolled();
    }
  }

  #leave(): void {
    if (this.#scroller.scrollHeight > this.#scroller.clientHeight + NEAR) this.#set(false);
  }

  #scrolled(): void {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    this.#set(scrollHeight - scrollTop - clientHeight < NEAR);
  }

  #set(following: boolean): void {
    if (this.#following === following) return;
    this.#following = following;
    this.#away(!following);
  }
}
