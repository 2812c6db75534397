use super::*;

fn read(first: u64, next: u64, highest: Micros) -> Read {
    let first = Some(first).filter(|first| *first > 0);
    Read { first, next, latest: (None, Some(highest)), rows: (first.unwrap_or(0), next), highest }
}

#[test]
fn a_partition_is_read_on_from_the_first_chunk_that_is_needed() {
    let mut track = Track::default();
    assert_eq!(place(&track, Cut::Time(0)), (None, 0, None, 0));
    for read in [read(0, 10, 5), read(10, 20, 30), read(20, 30, 9)] {
        track.take(0, read);
    }
    let at = |track: &Track, before| place(track, Cut::Time(before));
    assert_eq!(at(&track, 40), (Some(30), 30, Some(9), 30), "all of it is in");
    assert_eq!(at(&track, 20), (Some(10), 30, None, 10), "from the second chunk on");
    assert_eq!(at(&track, 5), (None, 30, None, 0), "from the beginning");
    track.forget(Cut::Time(20));
    assert_eq!(at(&track, 20), (Some(10), 30, None, 10));
    assert_eq!(track.chunks.len(), 2);
}

fn place(track: &Track, cut: Cut) -> (Option<u64>, u64, Option<Micros>, u64) {
    let Position { offset, taken, latest, rows, .. } = track.position(cut);
    (offset, taken, latest, rows)
}

#[test]
fn a_round_has_what_was_handed_on_before_it() {
    let mut track = Track::new(None);
    for (round, read) in [(3, read(0, 10, 5)), (3, read(10, 20, 30)), (6, read(20, 30, 9))] {
        track.take(round, read);
    }
    let at = |track: &Track, round| place(track, Cut::Round(round));
    assert_eq!(at(&track, 3), (None, 0, None, 0), "nothing was handed on before it");
    for round in 4..=6 {
        assert_eq!(at(&track, round), (Some(20), 20, Some(30), 20));
    }
    assert_eq!(at(&track, 7), (Some(30), 30, Some(9), 30));
    track.forget(Cut::Round(5));
    assert_eq!(track.chunks.len(), 1);
    assert_eq!(at(&track, 5), (Some(20), 20, Some(30), 20), "as before");
    assert_eq!(at(&track, 7), (Some(30), 30, Some(9), 30));
}

#[test]
fn rows_that_wait_for_each_other_are_read_again() {
    let mut track = Track::new(Some(10));
    let chunk = |first, next, latest: (i64, i64), highest| Read {
        first: Some(first),
        next,
        latest: (Some(latest.0), Some(latest.1)),
        rows: (first, next),
        highest,
    };
    track.take(1, chunk(1, 5, (0, 40), 40));
    track.take(2, chunk(5, 9, (40, 45), 45));
    let position = track.position(Cut::Round(3));
    assert_eq!((position.offset, position.taken), (Some(1), 9), "40 has not been let go");
    assert_eq!(position.before, Some(35), "what is before it has");
    track.take(3, chunk(9, 12, (45, 60), 60));
    assert_eq!(track.position(Cut::Round(4)).offset, Some(9));
    // A restart that has come only to a part of what it reads again knows that all of it was taken.
    let mut again = Track::resumed(&position, Some(10));
    again.take(3, chunk(1, 5, (0, 40), 40));
    let (was, is) = (position, again.position(Cut::Round(4)));
    assert_eq!((is.taken, is.before, is.offset), (was.taken, was.before, was.offset));
    track.finish(4);
    let position = track.position(Cut::Round(5));
    assert_eq!((position.offset, position.before), (Some(12), Some(Micros::MAX)));
    track.forget(Cut::Round(4));
    assert_eq!(track.chunks.len(), 1);
}

#[test]
fn the_watermark_of_a_line_is_the_one_that_was_told_before_it() {
    let mut tracks = Tracks::new(BTreeMap::new(), 7);
    for (round, mark) in [(2, 20), (4, 40), (6, 60)] {
        tracks.mark(round, mark);
    }
    let at = |tracks: &Tracks, round| tracks.at(Cut::Round(round)).mark;
    assert_eq!([2, 3, 4, 5, 9].map(|round| at(&tracks, round)), [7, 20, 20, 40, 60]);
    tracks.forget(Cut::Round(5));
    assert_eq!([5, 6, 7].map(|round| at(&tracks, round)), [40, 40, 60]);
    assert_eq!(tracks.marks.len(), 1);
}

fn saved() -> SavedSources {
    SavedSources { positions: Vec::new(), mark: 0 }
}

#[test]
fn a_line_is_passed_when_every_ingest_has_said_where_it_stands() {
    let (to, _from) = crossbeam_channel::unbounded();
    let lines = Lines::new(Duration::ZERO, 1, 3, to, Host::default());
    assert_eq!(lines.gate(), None, "there is no line");
    lines.worker_ended(2, Tracks::default());
    lines.choose(7);
    lines.give(Gift::Sources(0, saved()));
    assert_eq!(lines.gate(), Some(8), "worker 1 has not");
    lines.give(Gift::Sources(1, saved()));
    assert_eq!(lines.gate(), None);
    lines.done(Some(1));
    lines.choose(9);
    assert_eq!(lines.gate(), Some(10), "what was said of the line before does not count");
}

#[test]
fn a_line_is_under_way_when_all_processes_have_heard_of_it() {
    let (to, from) = crossbeam_channel::unbounded();
    let lines = Lines::new(Duration::ZERO, 1, 3, to, Host::default());
    let told = Arc::new(Mutex::new(Vec::new()));
    let tells = Arc::clone(&told);
    lines.tell_others(2, Box::new(move |round| tells.lock().unwrap().push(round)));
    lines.choose(7);
    assert!(lines.is_proposed() && lines.pending().is_none() && lines.gate().is_none());
    lines.heard();
    assert!(lines.is_proposed(), "one has not heard of it");
    lines.heard();
    assert_eq!((lines.is_proposed(), lines.pending()), (false, Some(8)));
    lines.done(None);
    assert_eq!(*told.lock().unwrap(), [Some(8), None]);
    // The other side: it chooses none itself, and what it has goes to the head.
    let (given, gives) = crossbeam_channel::unbounded();
    let member = Lines::new(Duration::MAX, 0, 0, crossbeam_channel::unbounded().0, Host::default());
    member.give_to_head(Box::new(move |what| given.send(what).unwrap()));
    member.choose(7);
    assert_eq!(member.pending(), None);
    member.begin(8);
    assert_eq!(member.pending(), Some(8));
    member.give(Gift::Sources(2, saved()));
    assert!(matches!(gives.try_recv(), Ok(Given::Sources(2, _))));
    member.over();
    assert_eq!((member.pending(), from.len()), (None, 1));
}

#[test]
fn one_line_at_a_time_and_none_too_soon() {
    let (to, from) = crossbeam_channel::unbounded();
    let lines = Lines::new(Duration::ZERO, 4, 1, to.clone(), Host::default());
    lines.choose(7);
    lines.choose(9);
    assert_eq!((lines.pending(), from.len()), (Some(8), 1));
    lines.done(Some(2));
    assert_eq!((lines.pending(), lines.number(), lines.oldest()), (None, 5, 2));
    lines.choose(9);
    assert_eq!(lines.pending(), Some(10));
    lines.done(None);
    assert_eq!((lines.number(), lines.oldest()), (6, 2), "one that was given up may stand");
    let seldom = Lines::new(Duration::from_secs(3_600), 0, 1, to, Host::default());
    seldom.choose(7);
    assert_eq!(seldom.pending(), None);
}
