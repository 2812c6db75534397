//! Tail probabilities of two classical distributions, by `libm`, so that they repeat on every
//! machine.

/// Where a series or a continued fraction stops: its next term changes no digit that counts.
const ENOUGH: f64 = 1e-16;

/// P(chi-square with `freedom` degrees of freedom > `x`). 1 for x <= 0.
pub fn chi_square_tail(x: f64, freedom: f64) -> f64 {
    gamma_tail(freedom / 2.0, x / 2.0)
}

/// The regularised upper incomplete gamma function Q(a, x), a > 0: below a + 1 as one less the
/// power series of P, above by the continued fraction of Q in Lentz's form. About 14 digits.
pub fn gamma_tail(a: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 1.0;
    }
    let front = libm::exp(a * libm::log(x) - x - libm::lgamma(a));
    if front == 0.0 {
        // The factor underflows only far from the middle of the distribution, on one side or the other.
        return if x > a { 0.0 } else { 1.0 };
    }
    let tail = if x < a + 1.0 { 1.0 - front * lower_series(a, x) } else { front * fraction(a, x) };
    tail.clamp(0.0, 1.0)
}

/// The sum over k of x^k / (a (a+1) ... (a+k)).
fn lower_series(a: f64, x: f64) -> f64 {
    let mut term = 1.0 / a;
    let mut sum = term;
    let mut k = a;
    while term > sum * ENOUGH {
        k += 1.0;
        term *= x / k;
        sum += term;
    }
    sum
}

/// 1/(x+1-a- 1(1-a)/(x+3-a- 2(2-a)/(x+5-a- ...))).
fn fraction(a: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let mut b = x + 1.0 - a;
    let mut c = 1.0 / TINY;
    let mut d = 1.0 / b;
    let mut value = d;
    // It settles within about sqrt(a) steps; the limit is for a that no detector has.
    for k in 1..100_000 {
        let k = f64::from(k);
        let numerator = -k * (k - a);
        b += 2.0;
        d = 1.0 / keep_away(numerator * d + b, TINY);
        c = keep_away(b + numerator / c, TINY);
        let change = c * d;
        value *= change;
        if (change - 1.0).abs() < ENOUGH * 4.0 {
            break;
        }
    }
    value
}

fn keep_away(x: f64, from_zero: f64) -> f64 {
    if x.abs() < from_zero { from_zero } else { x }
}

/// P(K > `x`) for Kolmogorov's distribution: the alternating series, and below 1.18, where that is
/// slow, its theta-function twin. Each needs at most four terms.
pub fn kolmogorov_tail(x: f64) -> f64 {
    use std::f64::consts::PI;
    if x <= 0.0 {
        return 1.0;
    }
    let tail = if x < 1.18 {
        // The exponents are the odd squares 1, 9, 25, 49.
        let base = libm::exp(-PI * PI / (8.0 * x * x));
        let fourth = base * base * base * base;
        let eighth = fourth * fourth;
        let sixteenth = eighth * eighth;
        let sum = base * (1.0 + eighth * (1.0 + sixteenth * (1.0 + sixteenth * eighth)));
        1.0 - libm::sqrt(2.0 * PI) / x * sum
    } else {
        // The exponents are the squares 1, 4, 9, 16; the 25th power is below 1e-30.
        let base = libm::exp(-2.0 * x * x);
        let square = base * base;
        let third = base * square;
        let (fifth, seventh) = (third * square, third * square * square);
        2.0 * base * (1.0 - third * (1.0 - fifth * (1.0 - seventh)))
    };
    tail.clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(ours: f64, theirs: f64) {
        assert!((ours - theirs).abs() <= 1e-12 * theirs.abs().max(1e-3), "{ours} against {theirs}");
    }

    #[test]
    fn tails_with_a_closed_form() {
        for x in [0.01, 0.5, 1.0, 3.0, 10.0, 40.0] {
            near(chi_square_tail(x, 2.0), libm::exp(-x / 2.0));
            near(chi_square_tail(x, 4.0), libm::exp(-x / 2.0) * (1.0 + x / 2.0));
            near(chi_square_tail(x, 1.0), libm::erfc(libm::sqrt(x / 2.0)));
        }
        assert_eq!(chi_square_tail(0.0, 3.0), 1.0);
        assert_eq!(chi_square_tail(1e6, 3.0), 0.0);
        assert_eq!(chi_square_tail(1.0, 1e6), 1.0);
    }

    #[test]
    fn the_two_forms_of_kolmogorov_meet() {
        let below = kolmogorov_tail(1.18 - 1e-9);
        let above = kolmogorov_tail(1.18 + 1e-9);
        assert!((below - above).abs() < 1e-8, "{below} {above}");
        assert_eq!(kolmogorov_tail(0.0), 1.0);
        assert_eq!(kolmogorov_tail(0.01), 1.0);
        assert!(kolmogorov_tail(40.0) == 0.0);
    }
}
