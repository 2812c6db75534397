//! A test of a challenger against the champion that may be looked at after every label.
//!
//! Two gamblers bet on each paired difference of losses. The one against "the challenger is not
//! better" holds, after differences x_1 .. x_t of champion's loss less challenger's (plus the
//! tolerance), the capital
//!
//! ```text
//! K_t = mean over bets b of  (1 + b x_1) (1 + b x_2) .. (1 + b x_t)
//! ```
//!
//! Each factor is positive, as |b x| < 1. If the mean of x given all that came before is never above
//! 0, K is a supermartingale that starts at 1, and by Ville's inequality it reaches 1/a at any time
//! with probability at most a. So whoever stops when it does errs with at most that probability,
//! however often they look and whenever they stop. The other gambler bets on -x in the same way.
//!
//! Bets are halved from the boldest that is allowed down to one of 1/2,048 of it; the mean over them
//! does, up to a factor of 12, as well as the best of these, chosen afterwards. No
//! variance is assumed or estimated.
//!
//! Source: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", J. R.
//! Stat. Soc. B 86(1), 2024 (a grid of fixed bets is their hedged capital process without a
//! predictable plug-in); Ville 1939 for the bound.
//!
//! Losses are bounded, because a bet on what has no bound may lose more than everything:
//! probabilities are kept away from 0 and 1 ([`Terms::clip`]). Rows must come in an order that does not depend on their labels: labels that
//! come sooner when they are bad would be bets on a biased sample. [`in_order`](super::in_order) waits
//! for the late ones.
//!
//! Cost: 24 multiplications a row, 400 bytes a test.

use super::log_loss::log_loss_of_margin;
use super::sum::Sum;

/// Bets to a gambler.
const BETS: usize = 12;

/// The share of everything that the boldest bet may lose on one row.
const BOLDEST: f64 = 0.9;

/// More capital is not counted: giving some away is always allowed.
const ENOUGH: f64 = 1e300;

/// What errors are allowed.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Terms {
    /// The chance, at most, that a challenger that is not better (by the margin) is ever found to be.
    pub false_promotion: f64,
    /// The chance, at most, that one that is not worse (by the margin) is ever found to be.
    pub false_abort: f64,
    /// How much more loss is no fault, in nats: 0 asks for a better model, above 0 for one that is
    /// not worse.
    pub margin: f64,
    /// Probabilities count as no nearer to 0 and 1 than this, above 0 and below 0.5. Below the rate of
    /// a rare label; the smaller it is, the more rows a finding takes.
    pub clip: f64,
}

impl Terms {
    /// The most, in nats, by which the losses of two models differ on a row: the log-odds of the clip.
    pub fn range(&self) -> f64 {
        libm::log((1.0 - self.clip) / self.clip)
    }

    /// The log loss of log-odds, in nats, as it is compared.
    pub fn loss(&self, label: bool, margin: f64) -> f64 {
        let range = self.range();
        log_loss_of_margin(label, margin.clamp(-range, range))
    }
}

/// What has been found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing yet.
    Open,
    /// The challenger is better: its mean loss is below the champion's plus the margin.
    Better,
    /// It is worse: its mean loss is above that.
    Worse,
}

/// What a verdict rests on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evidence {
    /// Rows compared.
    pub rows: u64,
    /// Mean of challenger's loss less champion's; 0 without rows.
    pub mean: f64,
    /// Its standard error, rows taken as independent; for people, nothing is decided by it.
    pub standard_error: f64,
    /// The capital of the one who bets that the challenger is better; 1 at the start.
    pub better: f64,
    /// The capital of the one who bets that it is worse.
    pub worse: f64,
}

/// A sequential test of one pair of models.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Duel {
    terms: Terms,
    range: f64,
    better: [f64; BETS],
    worse: [f64; BETS],
    /// Whether 1/a was reached at any time.
    reached: (bool, bool),
    rows: u64,
    sum: Sum,
    squares: Sum,
}

impl Duel {
    /// Before the first row.
    pub fn new(terms: Terms) -> Duel {
        Duel {
            range: terms.range(),
            terms,
            better: [1.0; BETS],
            worse: [1.0; BETS],
            reached: (false, false),
            rows: 0,
            sum: Sum::default(),
            squares: Sum::default(),
        }
    }

    /// Takes a labelled row with the log-odds that both gave it. What is no number is no comparison and
    /// passed over.
    pub fn add(&mut self, label: bool, challenger: f64, champion: f64) {
        let difference = self.terms.loss(label, challenger) - self.terms.loss(label, champion);
        if difference.is_nan() {
            return;
        }
        self.rows += 1;
        self.sum.add(difference);
        self.squares.add(difference * difference);
        let worse = difference - self.terms.margin;
        let mut bet = BOLDEST / (self.range + self.terms.margin.abs());
        for (for_better, for_worse) in self.better.iter_mut().zip(&mut self.worse) {
            *for_better = (*for_better * (1.0 - bet * worse)).min(ENOUGH);
            *for_worse = (*for_worse * (1.0 + bet * worse)).min(ENOUGH);
            bet /= 2.0;
        }
        self.reached.0 |= mean(&self.better) * self.terms.false_promotion >= 1.0;
        self.reached.1 |= mean(&self.worse) * self.terms.false_abort >= 1.0;
    }

    /// What has been found. A finding stands; where both were made, the worse one does.
    pub fn verdict(&self) -> Verdict {
        match self.reached {
            (_, true) => Verdict::Worse,
            (true, false) => Verdict::Better,
            (false, false) => Verdict::Open,
        }
    }

    /// What it rests on so far.
    pub fn evidence(&self) -> Evidence {
        let n = self.rows.max(1) as f64;
        let mean_difference = self.sum.value() / n;
        let spread = (self.squares.value() - n * mean_difference * mean_difference).max(0.0);
        Evidence {
            rows: self.rows,
            mean: mean_difference,
            standard_error: libm::sqrt(spread / (n - 1.0).max(1.0) / n),
            better: mean(&self.better),
            worse: mean(&self.worse),
        }
    }
}

fn mean(capitals: &[f64; BETS]) -> f64 {
    capitals.iter().map(|capital| capital / BETS as f64).sum()
}
