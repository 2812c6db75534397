//! `tidemill new`: a starter pipeline with data of its own, to be changed step by step.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::json;
use tidemill_types::Error;
use tidemill_types::time::{DAY, HOUR, SECOND, from_rfc3339, to_rfc3339};

use super::{Failure, Said};

const PIPELINE: &str = include_str!("new/pipeline.toml");

/// Payments of the starter.
const PAYMENTS: u64 = 5_000;

/// Writes the starter into a folder of that name.
pub(super) fn run(name: &str, folder: Option<&Path>) -> Result<Said, Failure> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || !name.chars().all(allowed) {
        return Err(Error::user(format!("`{name}` cannot be a pipeline's name"))
            .help("use letters, digits, `_` and `-`")
            .into());
    }
    let folder = folder.map_or_else(|| PathBuf::from(name), Path::to_path_buf);
    let files = [format!("{name}.toml"), "payments.csv".to_string(), "verdicts.csv".to_string()];
    if let Some(there) = files.iter().map(|file| folder.join(file)).find(|path| path.exists()) {
        return Err(Error::user(format!("{} is there already", there.display()))
            .help("choose another name, or another folder with --folder")
            .into());
    }
    let failed = |e: std::io::Error| Error::user(format!("cannot write {}: {e}", folder.display()));
    fs::create_dir_all(&folder).map_err(failed)?;
    fs::write(folder.join(&files[0]), PIPELINE.replace("NAME", name)).map_err(failed)?;
    write_data(&folder).map_err(failed)?;
    let pipeline = folder.join(&files[0]);
    let mut text = String::new();
    for file in &files {
        text += &format!("made {}\n", folder.join(file).display());
    }
    text += &format!("\nRun it:\n  tidemill run {}\n", pipeline.display());
    Ok(Said { text, json: json!({ "pipeline": pipeline, "files": files }) })
}

/// Payments of 40 cards over three months. A stolen card is used often and for much; from the
/// second month on, thieves take less and come more often.
fn write_data(folder: &Path) -> std::io::Result<()> {
    let mut payments = File::create(folder.join("payments.csv"))?;
    let mut verdicts = Vec::new();
    writeln!(payments, "id,made_at,card,amount")?;
    let start = from_rfc3339("2024-01-01").unwrap_or(0);
    let mut chance = Chance(1);
    let mut time = start;
    let mut thief: Option<(u64, u64)> = None;
    for id in 1..=PAYMENTS {
        let late = time - start > 30 * DAY;
        if thief.is_none() && chance.below(60) == 0 {
            thief = Some((chance.below(40), if late { 8 } else { 4 }));
        }
        let stolen = thief.filter(|_| chance.below(3) > 0);
        let card = stolen.map_or_else(|| chance.below(40), |(card, _)| card);
        let usual = 10 + card * 3 + chance.below(40);
        let amount = match stolen {
            Some(_) if late => usual * 2,
            Some(_) => usual * 6,
            None => usual,
        };
        writeln!(payments, "{id},{},card-{card:02},{amount}.{:02}", to_rfc3339(time), id % 100)?;
        let known = time + DAY + chance.below(72) as i64 * HOUR;
        verdicts.push((known, id, stolen.is_some()));
        thief = match (thief, stolen) {
            (Some((_, 1)), Some(_)) => None,
            (Some((card, left)), Some(_)) => Some((card, left - 1)),
            (thief, _) => thief,
        };
        let pause = if stolen.is_some() { 300 } else { 3_000 };
        time += (1 + chance.below(pause)) as i64 * SECOND;
    }
    verdicts.sort_unstable();
    let mut file = File::create(folder.join("verdicts.csv"))?;
    writeln!(file, "id,known_at,fraud")?;
    for (known, id, fraud) in verdicts {
        writeln!(file, "{id},{},{fraud}", to_rfc3339(known))?;
    }
    Ok(())
}

/// Numbers that look random and are the same each time (SplitMix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit
    }
}
