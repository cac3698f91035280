//! Writing results: a file is there whole or not at all, and a place that cannot be written is found before the work is done.

use super::{Status, cannot_write, fail};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Says whether a file could be written there, so far as this can be known without writing it.
pub fn check_destination(path: &Path) -> Result<(), Status> {
    let folder = folder_of(path);
    if !folder.is_dir() {
        return Err(fail(Status::Files, format_args!("cannot write {}: there is no folder {}", path.display(), folder.display())));
    }
    if path.is_dir() {
        return Err(fail(Status::Files, format_args!("cannot write {}: it is a folder", path.display())));
    }
    Ok(())
}

/// Writes a file by way of a temporary one beside it, which then takes its name.
pub fn write_file(path: &Path, content: &[u8]) -> Result<(), Status> {
    // A device or a pipe is written to, not replaced; of a link, the file it means is replaced.
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    if target.exists() && !target.is_file() {
        return std::fs::write(&target, content).map_err(|e| cannot_write(path, &e));
    }
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder_of(&target).join(format!(".{name}.{}.part", std::process::id()));
    let written = std::fs::write(&temporary, content).and_then(|()| std::fs::rename(&temporary, &target));
    written.map_err(|error| {
        // If even this fails, the first error is the one to tell.
        let _ = std::fs::remove_file(&temporary);
        cannot_write(path, &error)
    })
}

/// Writes to standard output. A reader that has seen enough, such as `head`, is no error.
pub fn print(text: &str) -> Result<(), Status> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(cannot_write(Path::new("to standard output"), &error)),
        _ => Ok(()),
    }
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    }
}
