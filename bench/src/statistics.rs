//! Figures of many figures.

/// The value that a share of all values does not exceed (nearest rank); 0 of none. `share` is between 0 and 1.
pub(crate) fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1).min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// The middle value.
pub(crate) fn median(values: &[f64]) -> f64 {
    percentile(values, 0.5)
}

/// The slope of the straight line that fits the points best where both axes are logarithmic: 0 is a cost that does
/// not grow, 1 one that grows in proportion.
pub(crate) fn growth_exponent(points: &[(f64, f64)]) -> f64 {
    let logarithms: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
    slope(&logarithms)
}

/// The slope of the straight line that fits the points best (least squares).
pub(crate) fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
    let covariance: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let variance: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    covariance / variance
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values = [4.0, 1.0, 3.0, 2.0];
        for (share, expected) in [(0.0, 1.0), (0.25, 1.0), (0.5, 2.0), (0.51, 3.0), (0.99, 4.0), (1.0, 4.0)] {
            assert_eq!(percentile(&values, share), expected, "{share}");
        }
        assert_eq!(percentile(&[], 0.5), 0.0);
        assert_eq!(median(&[9.0, 1.0, 5.0]), 5.0);
    }

    #[test]
    fn the_slope_is_that_of_the_line_that_fits_best() {
        assert_eq!(slope(&[(1.0, 5.0), (2.0, 5.0), (4.0, 5.0)]), 0.0);
        assert_eq!(slope(&[(10.0, 1.0), (20.0, 21.0), (30.0, 41.0)]), 2.0);
        // Worked out by hand: the means are 2 and 3, the products of what differs 5, the squares 2.
        assert_eq!(slope(&[(1.0, 1.0), (2.0, 2.0), (3.0, 6.0)]), 2.5);
    }

    #[test]
    fn the_growth_exponent_is_the_power() {
        let powers = |exponent: f64| [10.0, 100.0, 1000.0].map(|x: f64| (x, 7.0 * x.powf(exponent)));
        for exponent in [0.0, 0.5, 1.0, 2.0] {
            assert!((growth_exponent(&powers(exponent)) - exponent).abs() < 1e-9, "{exponent}");
        }
    }
}
