//! Lines that a former build made, brought to the form of this one.
//!
//! A line says of which form it is. From each form to the next there is one [`Step`], of its manifest and of its parts; a
//! line goes through all that it is behind, in memory: what is in the store stays as it is, and the next line is of the
//! new form. Who changes what a line holds raises [`super::manifest::FORMAT`] and writes the step; without one, older
//! lines are refused by name and the run begins again. Pure: no file, no clock.

use serde_json::{Map, Value};

/// The parts of a line by name, each with its content.
pub type Parts = Vec<(String, Vec<u8>)>;

/// From one form to the next.
pub struct Step {
    /// The form that it takes.
    pub from: u32,
    /// Changes the manifest.
    pub manifest: fn(&mut Map<String, Value>) -> Result<(), String>,
    /// Changes parts, of which some may not have been asked for; it may rename, split and drop them.
    pub parts: fn(Parts) -> Result<Parts, String>,
}

/// All steps, each from where the one before came to. Forms 1 and 2 were of no release.
pub const STEPS: &[Step] = &[];

/// Those that lead from one form to another.
///
/// # Errors
/// There is no way.
fn way(steps: &[Step], from: u32, to: u32) -> Result<&[Step], String> {
    if from > to {
        return Err(format!("it is of format {from}, and this build reads up to {to}"));
    }
    let first = to.checked_sub(from).and_then(|n| steps.len().checked_sub(n as usize));
    let way = first.map(|first| &steps[first..]);
    way.filter(|way| way.first().is_none_or(|step| step.from == from)).ok_or_else(|| {
        format!("it is of format {from}, which this build cannot bring to its own, {to}")
    })
}

/// Brings a manifest of one form to another.
///
/// # Errors
/// No way leads there, or a step does not understand it.
pub fn manifest(
    steps: &[Step],
    (from, to): (u32, u32),
    manifest: &mut Map<String, Value>,
) -> Result<(), String> {
    way(steps, from, to)?.iter().try_for_each(|step| (step.manifest)(manifest))
}

/// Brings parts of one form to another.
///
/// # Errors
/// No way leads there, or a step does not understand them.
pub fn parts(steps: &[Step], (from, to): (u32, u32), parts: Parts) -> Result<Parts, String> {
    way(steps, from, to)?.iter().try_fold(parts, |parts, step| (step.parts)(parts))
}

#[cfg(test)]
mod tests {
    use super::super::manifest::FORMAT;
    use super::*;

    /// The second form says `workers` where the first said `threads`, the third keeps sinks by twos.
    const TWO: [Step; 2] = [
        Step {
            from: 1,
            manifest: |line| {
                let workers = line.remove("threads").ok_or("it has no threads")?;
                line.insert("workers".to_string(), workers);
                Ok(())
            },
            parts: Ok,
        },
        Step {
            from: 2,
            manifest: |_| Ok(()),
            parts: |parts| {
                let twice = |(name, content): (String, Vec<u8>)| match name.as_str() {
                    "sinks" => (name, content.repeat(2)),
                    _ => (name, content),
                };
                Ok(parts.into_iter().map(twice).collect())
            },
        },
    ];

    fn map(text: &str) -> Map<String, Value> {
        serde_json::from_str(text).expect("an object")
    }

    #[test]
    fn a_line_goes_through_each_step_that_it_is_behind() {
        let mut line = map(r#"{"threads": 3}"#);
        manifest(&TWO, (1, 3), &mut line).expect("a way");
        assert_eq!(line, map(r#"{"workers": 3}"#));
        let of = |content: &[u8]| vec![("sinks".to_string(), content.to_vec())];
        for (from, content) in [(1, &b"abab"[..]), (2, b"abab"), (3, b"ab")] {
            assert_eq!(parts(&TWO, (from, 3), of(b"ab")), Ok(of(content)), "from {from}");
        }
    }

    #[test]
    fn a_form_without_a_way_is_refused() {
        for (from, said) in [(0, "cannot bring"), (4, "reads up to 3")] {
            let refused = parts(&TWO, (from, 3), Vec::new()).expect_err("no way");
            assert!(refused.contains(said), "{refused}");
        }
        let refused = manifest(&TWO, (1, 3), &mut Map::new()).expect_err("no threads");
        assert!(refused.contains("no threads"), "{refused}");
    }

    #[test]
    fn the_steps_lead_to_the_form_of_this_build() {
        let froms: Vec<u32> = STEPS.iter().map(|step| step.from).collect();
        let all: Vec<u32> = (FORMAT - STEPS.len() as u32..FORMAT).collect();
        assert_eq!(froms, all);
    }
}
