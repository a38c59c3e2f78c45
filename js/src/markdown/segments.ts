/**
 * Cuts a growing Markdown text into segments that no later text can change.
 *
 * A cut is decided by what stands before it and by the first characters after it alone, and is never taken
 * back; so a text that arrives in pieces is cut exactly as one that arrives whole, and whatever is rendered
 * segment by segment is rendered the same. The rule is careful rather than clever: a line after a blank line
 * begins a segment if it is not indented, not inside a fence, and not one more item of a list.
 */
export class Segmenter {
  /** Where each finished segment begins, and where the growing one does. */
  #start = 0;
  /** Where the first line begins that was not complete yet. */
  #line = 0;
  #afterBlank = false;
  #inList = false;
  #fence: Fence | null = null;

  /** Takes the whole text so far; returns the segments that are finished since the last call. */
  feed(text: string): string[] {
    const finished: string[] = [];
    for (;;) {
      const end = text.indexOf("\n", this.#line);
      const line = end < 0 ? text.slice(this.#line) : text.slice(this.#line, end);
      this.#leaveFence(line);
      if (this.#begins(line, end >= 0)) {
        finished.push(text.slice(this.#start, this.#line));
        this.#start = this.#line;
        this.#afterBlank = false;
        this.#inList = false;
      }
      if (end < 0) return finished;
      this.#read(line);
      this.#line = end + 1;
    }
  }

  /** Where the segment begins that may still change. */
  get tail(): number {
    return this.#start;
  }

  #begins(line: string, complete: boolean): boolean {
    if (this.#fence || !this.#afterBlank || this.#line === this.#start) return false;
    if (line === "" || /^[ \t]/.test(line)) return false;
    return !this.#inList || isItem(line, complete) === false;
  }

  #read(line: string): void {
    if (this.#fence) {
      if (closes(line, this.#fence)) this.#fence = null;
      this.#afterBlank = false;
    } else if (/^[ \t]*$/.test(line)) {
      this.#afterBlank = true;
    } else {
      this.#inList ||= /^ {0,3}(?:[-*+]|\d{1,9}[.)])(?:[ \t]|$)/.test(line);
      const fence = opens(line);
      // deeper than three spaces it is indented code, unless a list item holds it
      this.#fence = fence && (fence.indent < 4 || this.#inList) ? fence : null;
      this.#afterBlank = false;
    }
  }

  /** A fence inside a list item ends with the item, closed or not. */
  #leaveFence(line: string): void {
    if (this.#fence && this.#inList && this.#fence.indent > 0 && /^[^ \t]/.test(line)) {
      this.#fence = null;
      this.#afterBlank = false;
    }
  }
}

interface Fence {
  readonly mark: string;
  readonly length: number;
  readonly indent: number;
}

function opens(line: string): Fence | null {
  const found = /^( *(?:[-*+] +|\d{1,9}[.)] +)*)(?:(`{3,})[^`]*|(~{3,}).*)$/.exec(line);
  if (!found) return null;
  const fence = (found[2] ?? found[3]) as string;
  return { mark: fence.charAt(0), length: fence.length, indent: (found[1] as string).length };
}

function closes(line: string, fence: Fence): boolean {
  const found = /^ *(`{3,}|~{3,})[ \t]*$/.exec(line)?.[1];
  return found !== undefined && found.charAt(0) === fence.mark && found.length >= fence.length;
}

/** Is this line a list item? Undecided (undefined) while too little of it is there. */
function isItem(line: string, complete: boolean): boolean | undefined {
  if (/^(?:[-*+]|\d{1,9}[.)])[ \t]/.test(line)) return true;
  if (/^(?:[-*+]|\d{1,9}[.)]?)$/.test(line)) return complete ? !/^\d+$/.test(line) : undefined;
  return false;
}
