//! The workers. The only one of a life is in the thread of the simulation. Several cannot be, for timely has each wait for
//! the others when it begins; so each has a thread, which does nothing but make a step when it is told to, while all others
//! wait: one thread as far as any of them can tell.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tidemill::engine::bell::Bell;
use tidemill::engine::run::Begun;
use tidemill::engine::workers::{Common, Seat, Seated};
use tidemill::host::{Simulation, Turn};
use timely::WorkerConfig;
use timely::communication::allocator::Thread;
use timely::communication::{Allocator, WorkerGuards};
use timely::worker::Worker;

use super::director::Director;

/// Workers that have gone, or could not begin.
type Gone = Arc<Mutex<Vec<Option<Seated>>>>;

/// Has all workers of a run among its parts, and the clock; ends when they have gone.
pub fn run(begun: &mut Begun, director: &Arc<Director>) -> Vec<Seated> {
    let common = Common::of(begun);
    let mut seats = std::mem::take(&mut begun.seats);
    tick(begun, director);
    let (workers, gone) = (seats.len(), Gone::default());
    match seats.pop() {
        Some(seat) if workers == 1 => one(seat, &common, &gone, director),
        last => {
            seats.extend(last);
            several(seats, &common, &gone, director);
        }
    }
    while gone.lock().expect("whole").len() < workers {
        director.turn();
    }
    let mut gone = gone.lock().expect("whole");
    gone.drain(..).flatten().collect()
}

/// The clock is a part too. Who waits for it looks when it has moved.
fn tick(begun: &Begun, director: &Arc<Director>) {
    let (clock, shared) = (Arc::downgrade(director), Arc::clone(&begun.shared));
    let step = move || {
        if let Some(director) = clock.upgrade() {
            director.tick();
        }
        shared.bells.iter().for_each(Bell::ring);
        Turn::Moved
    };
    director.start("clock", Box::new(step));
}

fn one(seat: Seat, common: &Common, gone: &Gone, director: &Arc<Director>) {
    let allocator = Allocator::Thread(Thread::default());
    let mut worker = Worker::new(WorkerConfig::default(), allocator, Some(Instant::now()));
    let mut seated = common.seat(&mut worker, seat);
    let gone = Arc::clone(gone);
    let step = move || {
        if seated.as_ref().is_some_and(|seated| seated.step(&mut worker, false)) {
            return Turn::Moved;
        }
        gone.lock().expect("whole").push(seated.take());
        Turn::Over(())
    };
    director.seat(Box::new(step));
}

/// What came of a step on a thread apart.
enum Said {
    Goes,
    Over(Option<Seated>),
    Unwound(Box<dyn Any + Send>),
}

/// Waits for the threads when nobody speaks to a worker any more.
struct Guards(Mutex<Option<WorkerGuards<()>>>);

impl Drop for Guards {
    fn drop(&mut self) {
        // What a worker had to say it has said.
        self.0.lock().expect("whole").take().into_iter().for_each(|guards| drop(guards.join()));
    }
}

/// How a worker on a thread apart is spoken to. It goes when this has gone, and then its guard.
struct Apart {
    way: (Sender<()>, Receiver<Said>),
    _guards: Arc<Guards>,
}

impl Apart {
    fn step(&self) -> Said {
        let _ = self.way.0.send(());
        self.way.1.recv().unwrap_or(Said::Over(None))
    }
}

/// What a worker on a thread apart begins with.
type Begin = (Seat, Receiver<()>, Sender<Said>);

fn several(seats: Vec<Seat>, common: &Common, gone: &Gone, director: &Arc<Director>) {
    let (mut ways, mut begins) = (Vec::new(), Vec::new());
    for seat in seats {
        let ((to, told), (say, from)) = (channel(), channel());
        ways.push((to, from));
        begins.push(Mutex::new(Some((seat, told, say))));
    }
    let (workers, common, here) = (ways.len(), common.clone(), Arc::clone(director));
    let guards = timely::execute(timely::Config::process(workers), move |worker| {
        let begin = begins[worker.index()].lock().expect("whole").take();
        work(worker, begin.expect("its own"), &common, &here);
    });
    let guards = Arc::new(Guards(Mutex::new(Some(guards.expect("threads")))));
    // They are placed one after the other, so that what they start comes in this order.
    let apart = ways.into_iter().map(|way| Apart { way, _guards: Arc::clone(&guards) });
    for (i, worker) in apart.collect::<Vec<_>>().into_iter().enumerate() {
        let gone = Arc::clone(gone);
        let step = move || match worker.step() {
            Said::Goes => Turn::Moved,
            Said::Over(seated) => {
                gone.lock().expect("whole").push(seated);
                Turn::Over(())
            }
            Said::Unwound(why) => resume_unwind(why),
        };
        if step() == Turn::Moved {
            director.start(&format!("worker {i}"), Box::new(step));
        }
    }
}

/// Makes a step of a worker whenever it is told to.
fn work(worker: &mut Worker, (seat, told, say): Begin, common: &Common, director: &Arc<Director>) {
    let (mut seat, mut seated) = (Some(seat), None);
    director.enter();
    while told.recv().is_ok() {
        let step = AssertUnwindSafe(|| match seat.take() {
            Some(seat) => {
                seated = common.seat(worker, seat);
                seated.is_some()
            }
            None => seated.as_ref().is_some_and(|seated| seated.step(worker, false)),
        });
        let said = match catch_unwind(step) {
            Ok(true) => Said::Goes,
            Ok(false) => Said::Over(seated.take()),
            Err(why) => Said::Unwound(why),
        };
        let _ = say.send(said);
    }
    let left = worker.installed_dataflows();
    left.into_iter().for_each(|dataflow| worker.drop_dataflow(dataflow));
    Director::exit();
}
