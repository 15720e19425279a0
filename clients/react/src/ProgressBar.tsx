export interface ProgressBarProps {
  /** From 0 to 1; null while nothing can be said. */
  value: number | null;
  label: string;
  /** What is read aloud instead of the percentage. */
  text?: string;
  tone?: "working" | "done" | "failed";
}

export function ProgressBar({ value, label, text, tone = "working" }: ProgressBarProps) {
  const percent = value === null ? null : Math.floor(Math.min(1, Math.max(0, value)) * 100);
  return (
    <div
      className={`hy-bar hy-bar-${tone}${percent === null ? " hy-bar-unknown" : ""}`}
      role="progressbar"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={100}
      {...(percent === null ? {} : { "aria-valuenow": percent })}
      {...(text === undefined ? {} : { "aria-valuetext": text })}
    >
      <div className="hy-bar-fill" style={percent === null ? {} : { transform: `scaleX(${value ?? 0})` }} />
    </div>
  );
}
