//! The answers of the board, one for each page.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use serde_json::{Value as Json, json};
use tidemill_config::plan::Stream;
use tidemill_types::time::to_rfc3339;
use tidemill_types::{Error, Micros};

use super::Board;
use super::heat::{Heat, aligned};
use super::pulse::{Counts, Pulse};
use super::recent::{Alert, wall_clock};
use crate::engine::check;
use crate::engine::watermarks::Stand;
use crate::journal::tail;
use crate::mill::status::Shown;
use crate::observe::resident_bytes;
use crate::report::heat;

/// Features in one drift map; those that drift most come first.
const ROWS: usize = 200;

fn finite(value: f64) -> Option<f64> {
    Some(value).filter(|value| value.is_finite())
}

fn behind(time: Micros) -> f64 {
    (wall_clock().saturating_sub(time) as f64 / 1e6).max(0.0)
}

impl Board {
    fn rate(&self, pulse: &Pulse, of: impl Fn(&Counts) -> u64) -> f64 {
        if self.has_ended() { 0.0 } else { pulse.rate(of) }
    }

    /// How far everything is, and how fast.
    pub(super) fn status(&self) -> Json {
        let setup = &self.setup;
        let plan = &setup.compiled.plan;
        let now = setup.status.now();
        let counts = self.counts();
        let pulse = self.pulse();
        let sources = plan.sources.iter().enumerate().map(|(s, source)| {
            let (at, ended) = match setup.watermarks.of(s) {
                Stand::Nothing => (None, false),
                Stand::At(at) => (Some(at), false),
                Stand::Ended => (None, true),
            };
            let live = !check::bounded(source);
            json!({
                "name": source.name.value,
                "rows": counts.rows[s],
                "rows_per_second": self.rate(&pulse, |c| c.rows[s]),
                "watermark": at.map(to_rfc3339),
                "lag_seconds": at.filter(|_| live).map(behind),
                "ended": ended || self.has_ended(),
                "late": counts.late[s],
                "dead": counts.dead[s],
            })
        });
        let streams = Stream::ALL.iter().enumerate().map(|(n, (_, name))| {
            let rate = self.rate(&pulse, |c| c.streams[n]);
            (name.to_string(), json!({"rows": counts.streams[n], "rows_per_second": rate}))
        });
        let view = setup.online.view();
        let models = now.versions.iter().enumerate().map(|(m, (name, version))| {
            let learnt = view.models.get(m).map(|model| model.learnt);
            json!({"name": name, "version": version, "learnt": learnt})
        });
        let line = *self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let alerts = setup.outputs.counts().recent.alert_counts();
        let drifting =
            setup.status.drift().iter().filter(|(.., told)| told.level == "drift").count();
        json!({
            "now": to_rfc3339(wall_clock()),
            "state": if self.has_ended() { "ended" } else { "running" },
            "uptime_seconds": self.began.elapsed().as_secs_f64(),
            "watermark": now.watermark.map(to_rfc3339),
            "lag_seconds": now.watermark.filter(|_| setup.live).map(behind),
            "rows": counts.rows.iter().sum::<u64>(),
            "rows_per_second": self.rate(&pulse, |c| c.rows.iter().sum()),
            "scores": now.scores,
            "scores_per_second": self.rate(&pulse, |c| c.scores),
            "degraded": now.degraded,
            "late": counts.late.iter().sum::<u64>(),
            "dead": counts.dead.iter().sum::<u64>(),
            "labelled": now.join.labelled,
            "timed_out": now.join.timed_out,
            "unmatched": now.join.unmatched,
            "pending": now.pending,
            "log_loss": now.log_loss.and_then(finite),
            "drifting": drifting,
            "alerts": alerts.values().sum::<u64>(),
            "memory_bytes": resident_bytes(),
            "checkpoint": line.map(|(at, bytes)| json!({"at": to_rfc3339(at), "bytes": bytes})),
            "entities": setup.online.entities(),
            "sources": sources.collect::<Vec<_>>(),
            "streams": streams.collect::<serde_json::Map<_, _>>(),
            "models": models.collect::<Vec<_>>(),
        })
    }

    /// What was counted in each of the last seconds.
    pub(super) fn rates(&self) -> Json {
        let pulse = self.pulse();
        let rounded = |of: &dyn Fn(&Counts) -> u64| -> Vec<f64> {
            pulse.rates(of).into_iter().map(|rate| (rate * 10.0).round() / 10.0).collect()
        };
        let sources = self.setup.compiled.plan.sources.iter().enumerate();
        let sources = sources.map(|(s, source)| {
            (source.name.value.clone(), json!(rounded(&|c: &Counts| c.rows[s])))
        });
        json!({
            "rows_per_second": rounded(&|c: &Counts| c.rows.iter().sum()),
            "scores_per_second": rounded(&|c: &Counts| c.scores),
            "sources": sources.collect::<serde_json::Map<_, _>>(),
        })
    }

    /// Late rows and dead letters, with samples.
    pub(super) fn rejects(&self) -> Json {
        let counts = self.setup.outputs.counts();
        let dead = counts.dead_letters.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let late = counts.late.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (dead_samples, late_samples) =
            (counts.recent.dead_samples(), counts.recent.late_samples());
        let dead = dead.iter().map(|(key, rows)| {
            let samples = dead_samples.get(key).into_iter().flatten().rev().map(|sample| {
                json!({
                    "seen": to_rfc3339(sample.seen),
                    "origin": sample.origin,
                    "partition": sample.partition,
                    "offset": sample.offset,
                    "detail": sample.detail,
                    "raw": sample.raw,
                })
            });
            let samples: Vec<Json> = samples.collect();
            json!({"source": key.0, "reason": key.1, "rows": rows, "samples": samples})
        });
        let late = late.iter().filter(|(_, rows)| **rows > 0).map(|(source, rows)| {
            let samples = late_samples.get(source).into_iter().flatten().rev().map(|sample| {
                json!({
                    "seen": to_rfc3339(sample.seen),
                    "id": sample.id,
                    "event_time": to_rfc3339(sample.event_time),
                    "row": sample.row,
                })
            });
            json!({"source": source, "rows": rows, "samples": samples.collect::<Vec<Json>>()})
        });
        json!({"dead_letters": dead.collect::<Vec<_>>(), "late": late.collect::<Vec<_>>()})
    }

    /// How fresh each feature is, how often it is NULL, and how far what goes by is from its reference.
    pub(super) fn features(&self) -> Json {
        let setup = &self.setup;
        let watermark = setup.status.now().watermark;
        let mut skew: BTreeMap<String, Vec<Json>> = BTreeMap::new();
        for (drift, detector, of, told) in setup.status.drift() {
            skew.entry(of.to_string()).or_default().push(json!({
                "drift": drift,
                "detector": detector,
                "statistic": finite(told.statistic),
                "p_value": told.p_value.and_then(finite),
                "level": told.level,
                "at": to_rfc3339(told.at),
            }));
        }
        let fields = &setup.compiled.program.feature_schema.fields;
        let features = fields.iter().zip(setup.online.seen()).map(|(field, seen)| {
            let newest = seen.newest();
            let age = newest.zip(watermark);
            json!({
                "name": field.name,
                "type": field.data_type.to_string(),
                "rows": seen.rows(),
                "nulls": seen.nulls(),
                "newest": newest.map(to_rfc3339),
                "age_seconds": age.map(|(at, now)| (now.saturating_sub(at) as f64 / 1e6).max(0.0)),
                "lag_seconds": newest.filter(|_| setup.live).map(behind),
                "skew": skew.remove(&field.name).unwrap_or_default(),
            })
        });
        let plan = setup.compiled.plan.online.as_ref();
        let max_age = plan.and_then(|online| online.max_age);
        json!({
            "watermark": watermark.map(to_rfc3339),
            "features": features.collect::<Vec<_>>(),
            "online": plan.map(|_| json!({
                "entities": setup.online.entities(),
                "evicted": setup.online.evicted(),
                "max_age_seconds": max_age.map(|age| age as f64 / 1e6),
            })),
        })
    }

    /// A map of drift: features by spans of event time.
    pub(super) fn drift(
        &self,
        section: Option<&str>,
        detector: Option<&str>,
    ) -> Result<Json, Error> {
        let all = self.setup.status.drift_over_time();
        let mut maps: Vec<(String, String)> = Vec::new();
        for (name, detector, ..) in &all {
            let map = (name.to_string(), detector.to_string());
            if !maps.contains(&map) {
                maps.push(map);
            }
        }
        let listed: Vec<Json> =
            maps.iter().map(|(name, d)| json!({"drift": name, "detector": d})).collect();
        let fits = |(name, known): &&(String, String)| {
            section.is_none_or(|s| s == name) && detector.is_none_or(|d| d == known)
        };
        let Some((name, detector)) = maps.iter().find(fits) else {
            if section.is_none() && detector.is_none() {
                return Ok(json!({"maps": listed, "map": null}));
            }
            return Err(Error::user("no drift of that section and detector was read yet")
                .help("`maps` of the answer without both says what there is"));
        };
        let mut rows: Vec<_> = all
            .iter()
            .filter(|(n, d, ..)| **n == **name && *d == detector)
            .map(|(_, _, of, shown)| (of, shown))
            .collect();
        let largest = |shown: &Shown| {
            shown.heat.cells().filter_map(|(_, cell)| cell).fold(f64::MIN, f64::max)
        };
        rows.sort_by(|a, b| largest(b.1).total_cmp(&largest(a.1)));
        let left_out = rows.len().saturating_sub(ROWS);
        rows.truncate(ROWS);
        let heats: Vec<&Heat> = rows.iter().map(|(_, shown)| &shown.heat).collect();
        let (times, cells) = aligned(&heats);
        let span = heats.iter().map(|heat| heat.span()).max().unwrap_or(0);
        let bounds = rows.first().and_then(|(_, shown)| shown.bounds);
        let features = rows.iter().zip(cells).map(|((of, shown), cells)| {
            let cells: Vec<Option<f64>> =
                cells.into_iter().map(|cell| cell.and_then(finite)).collect();
            json!({
                "of": ***of,
                "statistic": finite(shown.told.statistic),
                "p_value": shown.told.p_value.and_then(finite),
                "level": shown.told.level,
                "at": to_rfc3339(shown.told.at),
                "cells": cells,
            })
        });
        Ok(json!({
            "maps": listed,
            "map": {
                "drift": name,
                "detector": detector,
                "warning": bounds.and_then(|(warning, _)| finite(warning)),
                "limit": bounds.and_then(|(_, limit)| finite(limit)),
                "edges": bounds.map(|(warning, limit)| heat::edges(warning, limit)),
                "span_seconds": span as f64 / 1e6,
                "columns": times.into_iter().map(to_rfc3339).collect::<Vec<_>>(),
                "features": features.collect::<Vec<_>>(),
                "left_out": left_out,
            },
        }))
    }

    /// The newest alerts, the newest first.
    pub(super) fn alerts(&self) -> Json {
        let recent = &self.setup.outputs.counts().recent;
        let counts = recent.alert_counts();
        let counts = counts
            .iter()
            .map(|((drift, level), n)| json!({"drift": drift, "level": level, "alerts": n}));
        let alert = |alert: Alert| {
            json!({
                "seen": to_rfc3339(alert.seen),
                "event_time": to_rfc3339(alert.event_time),
                "drift": alert.drift,
                "detector": alert.detector,
                "of": alert.of,
                "level": alert.level,
                "statistic": finite(alert.statistic),
                "p_value": alert.p_value.and_then(finite),
            })
        };
        json!({
            "counts": counts.collect::<Vec<_>>(),
            "alerts": recent.alerts().into_iter().map(alert).collect::<Vec<_>>(),
        })
    }

    /// Records of the journal, the newest first; those before number `before`, if it is given.
    pub(super) fn journal(&self, before: Option<u64>, limit: usize) -> Result<Json, Error> {
        let page = tail::page(&self.setup.folder.join("journal"), before, limit)?;
        let records = page
            .lines
            .into_iter()
            .map(|line| json!({"n": line.n, "hash": line.hash, "record": line.record}));
        Ok(json!({"records": records.collect::<Vec<_>>(), "total": page.total}))
    }
}
