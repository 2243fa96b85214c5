//! Tails of distributions, by bounds that never make a finding look more certain than it is.

/// The lower end of Wilson's interval for a ratio: small where there were few attempts.
pub(in crate::monitor) fn wilson_lower(hits: u64, attempts: u64, z: f64) -> f64 {
    if attempts == 0 {
        return 0.0;
    }
    let (n, ratio) = (attempts as f64, hits.min(attempts) as f64 / attempts as f64);
    let z2 = z * z;
    let spread = z * (ratio * (1.0 - ratio) / n + z2 / (4.0 * n * n)).sqrt();
    ((ratio + z2 / (2.0 * n) - spread) / (1.0 + z2 / n)).max(0.0)
}

/// What a normal variable exceeds with this small probability, to 0.0005 (Abramowitz and Stegun, 26.2.23).
pub(in crate::monitor) fn normal_quantile(probability: f64) -> f64 {
    let t = (-2.0 * probability.clamp(f64::MIN_POSITIVE, 0.5).ln()).sqrt();
    let above = 2.515_517 + t * (0.802_853 + t * 0.010_328);
    let below = 1.0 + t * (1.432_788 + t * (0.189_269 + t * 0.001_308));
    t - above / below
}

/// An upper bound (Chernoff's) of the logarithm of P(X >= k) for a Poisson variable.
pub(super) fn ln_poisson_tail(k: f64, mean: f64) -> f64 {
    if k <= mean {
        return 0.0;
    }
    if mean <= 0.0 {
        return f64::NEG_INFINITY;
    }
    -(k * (k / mean).ln() - k + mean)
}

/// An upper bound (Chernoff's) of the logarithm of P(X >= k) of n trials with probability p; exact for k = n.
pub(super) fn ln_binomial_tail(n: f64, k: f64, p: f64) -> f64 {
    if n <= 0.0 || k <= n * p {
        return 0.0;
    }
    let share = (k / n).min(1.0);
    let rest = if share < 1.0 { (1.0 - share) * ((1.0 - share) / (1.0 - p)).ln() } else { 0.0 };
    -n * (share * (share / p).ln() + rest)
}

/// The logarithm of P(X >= x) for a sum of so many exponential variables of mean 1 (Erlang's distribution).
pub(super) fn ln_gamma_tail(summands: usize, x: f64) -> f64 {
    if x <= 0.0 || summands == 0 {
        return 0.0;
    }
    // e^-x (1 + x + x^2/2! + ...), added as logarithms since neither factor need fit.
    let mut term = -x;
    let mut sum = term;
    for index in 1..summands {
        term += (x / index as f64).ln();
        let (high, low) = if sum > term { (sum, term) } else { (term, sum) };
        sum = high + (low - high).exp().ln_1p();
    }
    sum.min(0.0)
}

/// The median, the upper one of two; reorders the values. 0 of none.
pub(in crate::monitor) fn median(values: &mut [f64]) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(value: f64, expected: f64) {
        assert!((value - expected).abs() < 1e-3, "{value} is not {expected}");
    }

    #[test]
    fn quantiles_are_those_of_the_tables() {
        near(normal_quantile(0.5), 0.0);
        near(normal_quantile(0.025), 1.960);
        near(normal_quantile(0.001), 3.090);
        near(normal_quantile(1e-6), 4.753);
    }

    #[test]
    fn wilsons_bound_asks_for_evidence() {
        near(wilson_lower(0, 0, 1.96), 0.0);
        near(wilson_lower(1, 1, 1.96), 0.207);
        near(wilson_lower(3, 5, 1.96), 0.231);
        near(wilson_lower(5, 10, 1.96), 0.237);
        near(wilson_lower(25, 100, 1.96), 0.175);
        near(wilson_lower(500, 1000, 1.96), 0.469);
    }

    #[test]
    fn tails_are_never_below_the_true_ones() {
        // P(X >= 10) for a mean of 3 is 0.0011.
        assert!((0.0011..0.02).contains(&ln_poisson_tail(10.0, 3.0).exp()));
        near(ln_poisson_tail(2.0, 3.0).exp(), 1.0);
        // P(X >= 5) of 10 trials with 0.1 is 0.00163.
        assert!((0.00163..0.02).contains(&ln_binomial_tail(10.0, 5.0, 0.1).exp()));
        near(ln_binomial_tail(3.0, 3.0, 0.1).exp(), 0.001);
        // P(X >= 5) of Erlang(3) is 0.1247, of the exponential distribution 0.0067.
        near(ln_gamma_tail(3, 5.0).exp(), 0.1247);
        near(ln_gamma_tail(1, 5.0).exp(), 0.0067);
        assert!(ln_gamma_tail(100_000, 150_000.0) < -1_000.0);
    }

    #[test]
    fn a_median_is_in_the_middle() {
        near(median(&mut []), 0.0);
        near(median(&mut [3.0]), 3.0);
        near(median(&mut [9.0, 1.0, 5.0]), 5.0);
        near(median(&mut [4.0, 1.0, 2.0, 9.0]), 4.0);
    }
}
