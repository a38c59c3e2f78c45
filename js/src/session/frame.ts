/**
 * Runs a flush at the next frame; on a hidden page, where frames stand still, a little later. Whichever timer
 * comes first wins, the other is taken back.
 */
export function nextFrame(flush: () => void): void {
  let frame = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const run = () => {
    cancelAnimationFrame(frame);
    clearTimeout(timer);
    flush();
  };
  if (typeof document !== "undefined" && !document.hidden) frame = requestAnimationFrame(run);
  timer = setTimeout(run, 150);
}
