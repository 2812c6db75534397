//! A TCP proxy that misbehaves when it is told to.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What it does with the next connections.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mood {
    /// Passes on both ways.
    Pass,
    /// Passes requests on, and loses the answers of so many.
    LoseAnswers(usize),
    /// Takes everything and answers nothing.
    Swallow,
    /// Closes at once.
    Reset,
}

/// A proxy on a port of its own.
pub struct Proxy {
    port: u16,
    state: Arc<Mutex<(Mood, usize)>>,
}

impl Proxy {
    /// To this address.
    pub fn to(target: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(Mutex::new((Mood::Pass, 0)));
        let (shared, target) = (Arc::clone(&state), target.to_string());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (shared, target) = (Arc::clone(&shared), target.clone());
                thread::spawn(move || serve(client, &target, &shared));
            }
        });
        Proxy { port, state }
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Changes what it does.
    pub fn set(&self, mood: Mood) {
        self.state.lock().expect("nobody panicked").0 = mood;
    }

    /// Answers that were lost.
    pub fn lost(&self) -> usize {
        self.state.lock().expect("nobody panicked").1
    }
}

fn serve(mut client: TcpStream, target: &str, shared: &Mutex<(Mood, usize)>) {
    let mood = {
        let mut state = shared.lock().expect("nobody panicked");
        let mood = state.0;
        if let Mood::LoseAnswers(n) = mood {
            state.0 = if n > 1 { Mood::LoseAnswers(n - 1) } else { Mood::Pass };
            state.1 += 1;
        }
        mood
    };
    match mood {
        Mood::Reset => return,
        Mood::Swallow => {
            thread::sleep(Duration::from_secs(60));
            return;
        }
        Mood::Pass | Mood::LoseAnswers(_) => {}
    }
    let Ok(mut server) = TcpStream::connect(target) else { return };
    let (Ok(mut from), Ok(mut to)) = (client.try_clone(), server.try_clone()) else { return };
    thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    if mood == Mood::Pass {
        let _ = std::io::copy(&mut server, &mut client);
        let _ = client.shutdown(Shutdown::Both);
        return;
    }
    // The other side has taken it when it begins to answer; who asked hears nothing.
    let mut answer = [0; 1];
    let _ = server.read(&mut answer);
    let _ = client.flush();
    let _ = client.shutdown(Shutdown::Both);
}
