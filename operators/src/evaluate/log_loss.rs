//! Log loss: what a probability costs when the label comes, in nats.

/// Probabilities are kept this far from 0 and 1, so that one sure mistake costs 34.5 and not
/// infinity.
pub const EDGE: f64 = 1e-15;

/// -ln of the probability that was given to what happened. `score` is not NaN.
pub fn log_loss(label: bool, score: f64) -> f64 {
    let score = score.clamp(EDGE, 1.0 - EDGE);
    if label { -libm::log(score) } else { -libm::log1p(-score) }
}

/// Log-odds beyond this count as this: the loss then is below 2^11 even when it is squared, as sums of it need.
pub const SURE: f64 = 40.0;

/// The same from log-odds: ln(1 + e^-m) of the margin in favour of what happened, which is cut at [`SURE`].
pub fn log_loss_of_margin(label: bool, margin: f64) -> f64 {
    let m = if label { margin } else { -margin }.clamp(-SURE, SURE);
    if m >= 0.0 { libm::log1p(libm::exp(-m)) } else { libm::log1p(libm::exp(m)) - m }
}
