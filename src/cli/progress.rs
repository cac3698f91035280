//! Progress of a multi-start estimation: a bar on a terminal, one line per finished start otherwise.

use crate::estimate::{Start, StopReason};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Mutex;

/// Shows finished starts on stderr.
pub struct Progress {
    bar: Option<ProgressBar>,
    lines: bool,
    best: Mutex<f64>,
}

impl Progress {
    /// Progress of `total` starts; `quiet` shows nothing.
    pub fn new(total: usize, quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = (terminal && !quiet).then(|| {
            let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{pos}/{len} starts  {wide_bar}  {msg}  {elapsed}") {
                bar.set_style(style);
            }
            bar
        });
        Progress { bar, lines: !terminal && !quiet, best: Mutex::new(f64::INFINITY) }
    }

    /// Shows a finished start.
    pub fn finished(&self, start: &Start) {
        let best = match self.best.lock() {
            Ok(mut best) => {
                *best = best.min(start.value);
                *best
            }
            Err(_) => start.value,
        };
        if let Some(bar) = &self.bar {
            bar.set_message(format!("best -log L {best:.3}"));
            bar.inc(1);
        }
        if self.lines {
            let word = match &start.stop {
                StopReason::Failed(message) => format!("failed: {message}"),
                StopReason::Iterations => "iteration limit".to_string(),
                StopReason::Interrupted => "interrupted".to_string(),
                _ => "converged".to_string(),
            };
            eprintln!("  #{:<4} -log L {:<14.4} |g| {:<8.1e} {word}  {:.1} s", start.index, start.value, start.gradient_norm, start.duration.as_secs_f64());
        }
    }

    /// Removes the bar.
    pub fn done(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
