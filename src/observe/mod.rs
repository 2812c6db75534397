//! What a run tells about itself while it runs and when it ends: metrics, log, progress, summary.
//!
//! Nothing here is read back by the dataflow, so the wall clock may be looked at.

pub mod logging;
pub mod metrics;
pub mod progress;
pub mod summary;
pub mod traces;

use indicatif::MultiProgress;

pub use logging::LogFormat;
pub use metrics::Metrics;
pub use progress::{Display, Progress, ProgressBar};
pub use summary::Summary;

/// Standard error, shared by the log and the progress bar so that neither breaks the other.
#[derive(Clone, Debug, Default)]
pub struct Screen {
    bars: MultiProgress,
}

impl Screen {
    /// Runs `print` while no bar is on the screen.
    pub fn suspend<R>(&self, print: impl FnOnce() -> R) -> R {
        self.bars.suspend(print)
    }
}

/// Memory of this process that is in RAM now, in bytes; nothing where the system does not tell.
pub fn resident_bytes() -> Option<u64> {
    status_bytes("VmRSS:")
}

/// The most memory that this process had in RAM, in bytes; nothing where the system does not tell.
pub fn peak_resident_bytes() -> Option<u64> {
    status_bytes("VmHWM:")
}

/// A line of Linux's `/proc/self/status`, which counts in KiB.
fn status_bytes(key: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// 1234567 as `1,234,567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A duration in seconds for people: `850 ms`, `12.3 s`, `4 m 05 s`, `2 h 03 m`.
pub fn duration(seconds: f64) -> String {
    let whole = if seconds.is_finite() { seconds.max(0.0).round() as u64 } else { 0 };
    match seconds {
        s if s < 0.9995 => format!("{:.0} ms", s.max(0.0) * 1e3),
        s if s < 59.95 => format!("{s:.1} s"),
        _ if whole < 3_600 => format!("{} m {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} m", whole / 3_600, whole / 60 % 60),
    }
}

/// A size for people, in binary units: `712 B`, `64.0 MiB`.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        let cases = [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")];
        for (number, text) in cases {
            assert_eq!(thousands(number), text);
        }
        let cases = [
            (0.0, "0 ms"),
            (0.8504, "850 ms"),
            (0.9996, "1.0 s"),
            (59.9, "59.9 s"),
            (59.99, "1 m 00 s"),
            (245.4, "4 m 05 s"),
            (3_599.7, "1 h 00 m"),
            (7_384.0, "2 h 03 m"),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
        assert_eq!((size(712), size(64 << 20)), ("712 B".into(), "64.0 MiB".into()));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_is_told() {
        let block = vec![1u8; 32 << 20];
        assert!(block.iter().all(|&b| b == 1));
        let (now, peak) = (resident_bytes().expect("told"), peak_resident_bytes().expect("told"));
        assert!(now > 32 << 20 && peak >= now / 2, "{now} {peak}");
    }
}
