//! Progress on the standard error stream. A multi-start fit: a bar on a terminal, otherwise one line per finished start. A single
//! long step: what is being done and for how long, on a terminal only.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::estimate::{Start, StopReason};

/// Shows finished starts; may be shared between threads.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    quiet: bool,
    objective: &'static str,
    best: Mutex<f64>,
}

impl Progress {
    /// A display for `total` starts of minimising `objective`. `quiet` shows nothing.
    pub fn new(total: usize, objective: &'static str, quiet: bool) -> Progress {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
            // The template is a constant of this file; should it ever be wrong, the default style does.
            let style = ProgressStyle::with_template("{bar:24} {pos}/{len} starts · {elapsed_precise} · {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        });
        Progress { bar, quiet, objective, best: Mutex::new(f64::INFINITY) }
    }

    /// Reports a finished start.
    pub fn finished(&self, start: &Start) {
        if self.quiet {
            return;
        }
        match &self.bar {
            Some(bar) => {
                bar.inc(1);
                // A thread that panicked cannot have left half a number behind.
                let mut best = self.best.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                if start.value < *best {
                    *best = start.value;
                    bar.println(line(self.objective, start));
                }
                if best.is_finite() {
                    bar.set_message(format!("best {} {best:.3}", self.objective));
                }
            }
            None => {
                // Progress is no reason to stop a fit: a closed stream is ignored.
                let _ = writeln!(std::io::stderr().lock(), "{}", line(self.objective, start));
            }
        }
    }

    /// Removes the bar.
    pub fn done(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Shows on a terminal what is being done and for how long. Dropping it removes the line.
#[derive(Debug)]
pub struct Waiting(Option<ProgressBar>);

impl Waiting {
    /// A display that starts with `what`.
    pub fn new(what: &'static str) -> Waiting {
        Waiting(std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{spinner} {msg} · {elapsed}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.set_message(what);
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        }))
    }

    /// Changes what is being done, and shows the share that is done: `now` holds the bits of a time between `start` and `end`.
    pub fn say_share(&self, what: &'static str, now: Arc<AtomicU64>, start: f64, end: f64) {
        let Some(bar) = &self.0 else { return };
        let share = move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
            let done = (f64::from_bits(now.load(Ordering::Relaxed)) - start) / (end - start);
            let _ = write!(out, "{:.0} %", 100.0 * done.clamp(0.0, 1.0));
        };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} · {share} · {elapsed}") {
            bar.set_style(style.with_key("share", share));
        }
        bar.set_message(what);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// One line on a finished start.
fn line(objective: &str, start: &Start) -> String {
    let stop = match &start.stop {
        stop if stop.converged() => "converged".to_owned(),
        StopReason::Iterations => "iteration limit".to_owned(),
        StopReason::Failed(message) => format!("failed: {message}"),
        _ => "interrupted".to_owned(),
    };
    let value = if start.value.is_finite() { format!("{:.3}", start.value) } else { format!("{}", start.value) };
    let seconds = start.duration.as_secs_f64();
    format!("  #{}  {objective} {value}   |g| {:.0e}   {stop}   {seconds:.1} s", start.index, start.gradient_norm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_per_start() {
        let mut start = Start {
            index: 12,
            initial: vec![0.0],
            initial_value: 5000.0,
            point: vec![1.0],
            value: 1204.31749,
            gradient: vec![2e-5],
            gradient_norm: 2e-5,
            iterations: 7,
            evaluations: 9,
            duration: Duration::from_millis(3100),
            stop: StopReason::Gradient,
            trace: Vec::new(),
        };
        assert_eq!(line("-log L", &start), "  #12  -log L 1204.317   |g| 2e-5   converged   3.1 s");
        start.value = f64::INFINITY;
        start.stop = StopReason::Failed("no steady state".to_owned());
        assert_eq!(line("-log L", &start), "  #12  -log L inf   |g| 2e-5   failed: no steady state   3.1 s");
    }

    #[test]
    fn shared_between_threads() {
        fn sync<T: Sync + Send>() {}
        sync::<Progress>();
    }
}
