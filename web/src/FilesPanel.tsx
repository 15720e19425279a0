import { counted, formatBytes, ProgressBar, useHaulyard, type CatalogueFile } from "@haulyard/react";
import { useRef, useState, type DragEvent } from "react";
import { archiveName } from "./archiveName.ts";
import { messageOf } from "./messages.ts";
import { sampleFiles } from "./samples.ts";
import { useFiles, type Files } from "./useFiles.ts";
import { useUploads, type Uploads } from "./useUploads.ts";

type Selection = ReadonlyMap<number, CatalogueFile>;

export function FilesPanel({ onStarted }: { onStarted: (jobId: string) => void }) {
  const [search, setSearch] = useState("");
  const [selected, setSelected] = useState<Selection>(new Map());
  const [isDropping, setDropping] = useState(false);
  const files = useFiles(search.trim());
  const uploads = useUploads((file) => {
    files.add(file);
    setSelected((old) => new Map(old).set(file.file_id, file));
  });

  const select = (chosen: readonly CatalogueFile[], isSelected: boolean) =>
    setSelected((old) => {
      const next = new Map(old);
      for (const file of chosen) {
        if (isSelected) next.set(file.file_id, file);
        else next.delete(file.file_id);
      }
      return next;
    });
  const drop = (event: DragEvent) => {
    event.preventDefault();
    setDropping(false);
    uploads.start([...event.dataTransfer.files]);
  };
  const isEmpty = files.files?.length === 0 && search === "" && uploads.uploads.length === 0;

  return (
    <section
      className={isDropping ? "panel dropping" : "panel"}
      aria-labelledby="files"
      onDragOver={(event) => {
        event.preventDefault();
        setDropping(true);
      }}
      onDragLeave={(event) => {
        if (!event.currentTarget.contains(event.relatedTarget as Node | null)) setDropping(false);
      }}
      onDrop={drop}
    >
      <div className="panel-head">
        <h2 id="files">Files</h2>
        <UploadButton onFiles={uploads.start} />
      </div>
      {!isEmpty && (
        <input
          className="search"
          type="search"
          placeholder="Search by name"
          aria-label="Search files by name"
          value={search}
          onChange={(event) => setSearch(event.target.value)}
        />
      )}
      <UploadList {...uploads} />
      {files.problem !== null && (
        <div className="hy-problem trouble" role="alert">
          <span>{files.problem}</span>
          <button type="button" className="hy-button" onClick={files.reload}>
            Try again
          </button>
        </div>
      )}
      {files.files === null && files.problem === null && <p className="empty">Loading…</p>}
      {isEmpty && (
        <div className="empty">
          <p className="empty-title">No files yet</p>
          <p>Drop files here, upload some, or let your browser make a few to try it with.</p>
          <button type="button" className="hy-button hy-button-primary" onClick={() => uploads.start(sampleFiles())}>
            Add sample files
          </button>
        </div>
      )}
      {files.files?.length === 0 && search !== "" && (
        <p className="empty">No file has “{search.trim()}” in its name.</p>
      )}
      <FileList files={files} selected={selected} select={select} />
      <StartBar
        selected={selected}
        isUploading={uploads.uploads.some((upload) => upload.problem === null)}
        onStarted={(jobId) => {
          setSelected(new Map());
          onStarted(jobId);
        }}
      />
    </section>
  );
}

function UploadButton({ onFiles }: { onFiles: (files: readonly File[]) => void }) {
  const input = useRef<HTMLInputElement>(null);
  return (
    <>
      <button type="button" className="hy-button" onClick={() => input.current?.click()}>
        Upload…
      </button>
      <input
        ref={input}
        className="hy-hidden"
        type="file"
        multiple
        tabIndex={-1}
        aria-label="Files to upload"
        onChange={(event) => {
          onFiles([...(event.target.files ?? [])]);
          event.target.value = ""; // the same file may be chosen again
        }}
      />
    </>
  );
}

function UploadList({ uploads, dismiss }: Uploads) {
  if (uploads.length === 0) return null;
  return (
    <ul className="uploads" aria-label="Uploads">
      {uploads.map(({ id, name, size, sent, problem }) => (
        <li key={id}>
          <span className="upload-name">{name}</span>
          {problem === null ? (
            <ProgressBar value={size === 0 ? 0 : sent / size} label={`Upload of ${name}`} />
          ) : (
            <span className="hy-problem trouble" role="alert">
              <span>{problem}</span>
              <button type="button" className="hy-button" onClick={() => dismiss(id)}>
                Dismiss <span className="hy-hidden">{name}</span>
              </button>
            </span>
          )}
        </li>
      ))}
    </ul>
  );
}

interface FileListProps {
  files: Files;
  selected: Selection;
  select: (files: readonly CatalogueFile[], isSelected: boolean) => void;
}

function FileList({ files, selected, select }: FileListProps) {
  const shown = files.files ?? [];
  const ready = shown.filter((file) => file.status === "available");
  const chosen = ready.filter((file) => selected.has(file.file_id)).length;
  if (shown.length === 0) return null;
  return (
    <>
      <label className="file-row select-all">
        <input
          type="checkbox"
          checked={chosen === ready.length && chosen > 0}
          ref={(box) => {
            if (box !== null) box.indeterminate = chosen > 0 && chosen < ready.length;
          }}
          disabled={ready.length === 0}
          onChange={(event) => select(ready, event.target.checked)}
        />
        <span>Select all</span>
        <span className="file-size">
          {counted(shown.length, "file")}
          {files.hasMore && " so far"}
        </span>
      </label>
      <ul className="file-rows" tabIndex={0} aria-label="Your files">
        {shown.map((file) => (
          <li key={file.file_id}>
            <label className="file-row">
              <input
                type="checkbox"
                checked={selected.has(file.file_id)}
                disabled={file.status !== "available"}
                onChange={(event) => select([file], event.target.checked)}
              />
              <span className="file-name">{file.name}</span>
              <span className="file-size">
                {file.size_bytes === null ? "not uploaded" : formatBytes(file.size_bytes)}
              </span>
            </label>
          </li>
        ))}
        {files.hasMore && (
          <li>
            <button type="button" className="hy-button" onClick={files.more}>
              Show more
            </button>
          </li>
        )}
      </ul>
    </>
  );
}

interface StartBarProps {
  selected: Selection;
  isUploading: boolean;
  onStarted: (jobId: string) => void;
}

function StartBar({ selected, isUploading, onStarted }: StartBarProps) {
  const client = useHaulyard();
  const [name, setName] = useState("");
  const [isBusy, setBusy] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);
  if (selected.size === 0) return null;
  const proposed = archiveName(
    [...selected.values()].map((file) => file.name),
    new Date(),
  );

  const start = async () => {
    setBusy(true);
    setProblem(null);
    try {
      const job = await client.initiate({ fileIds: [...selected.keys()], filename: name.trim() || proposed });
      setName("");
      onStarted(job.job_id);
    } catch (error) {
      setProblem(messageOf(error));
    } finally {
      setBusy(false);
    }
  };
  const bytes = [...selected.values()].reduce((sum, file) => sum + (file.size_bytes ?? 0), 0);
  const isBlocked = isBusy || isUploading;
  return (
    <form
      className="start"
      onSubmit={(event) => {
        event.preventDefault();
        if (!isBlocked) void start();
      }}
    >
      <p className="start-count" role="status">
        {counted(selected.size, "file")} · {formatBytes(bytes)}
      </p>
      <input
        className="start-name"
        aria-label="Name of the archive"
        placeholder={proposed}
        maxLength={200}
        value={name}
        onChange={(event) => setName(event.target.value)}
      />
      <button type="submit" className="hy-button hy-button-primary" aria-disabled={isBlocked}>
        {isUploading ? "Uploading…" : isBusy ? "Starting…" : "Download as ZIP"}
      </button>
      {problem !== null && (
        <p className="hy-problem" role="alert">
          {problem}
        </p>
      )}
    </form>
  );
}
