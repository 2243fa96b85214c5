//! Two series as bars, one upwards and one downwards from a line between them.

/// Two series around a line: the first grows upwards, the second downwards, on one scale.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct MirroredGraph {
    /// The rows above the line, the uppermost first.
    pub above: Vec<String>,
    /// The rows below it, the uppermost first.
    pub below: Vec<String>,
    /// What a full bar stands for: the highest value of both.
    pub highest: f64,
}

/// The last `width` values of two series as bars of `rows` rows each; blanks where they are shorter. What is not nothing is
/// at least a thin bar.
///
/// ```
/// let graph = netmon_core::view::mirrored_graph(&[1.0, 8.0], &[0.0, 4.0], 3, 1);
/// assert_eq!(graph.above, [" ▁█"]);
/// assert_eq!(graph.below, ["  ▀"]);
/// assert_eq!(graph.highest, 8.0);
/// ```
pub fn mirrored_graph(above: &[f64], below: &[f64], width: usize, rows: usize) -> MirroredGraph {
    let highest = last(above, width).iter().chain(last(below, width)).copied().fold(0.0, f64::max);
    // From blank to full. Blocks that hang have three heights only that all fonts know.
    let standing = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let hanging = [' ', '▔', '▔', '▀', '▀', '▀', '▀', '█', '█'];
    let upwards: Vec<String> =
        (0..rows).rev().map(|row| bars(last(above, width), highest, width, rows, row, &standing)).collect();
    let downwards =
        (0..rows).map(|row| bars(last(below, width), highest, width, rows, row, &hanging)).collect();
    MirroredGraph { above: upwards, below: downwards, highest }
}

fn last(values: &[f64], width: usize) -> &[f64] {
    &values[values.len().saturating_sub(width)..]
}

/// One row of bars, counted from the line.
fn bars(values: &[f64], highest: f64, width: usize, rows: usize, row: usize, blocks: &[char; 9]) -> String {
    const STEPS: usize = 8;

    let block = |value: &f64| {
        if highest <= 0.0 || *value <= 0.0 {
            return blocks[0];
        }
        // A share is never above 1, and the product small.
        let filled = ((value / highest) * (rows * STEPS) as f64).round().max(1.0) as usize;
        blocks[filled.saturating_sub(row * STEPS).min(STEPS)]
    };
    std::iter::repeat_n(' ', width - values.len()).chain(values.iter().map(block)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_grow_from_the_line_in_both_directions() {
        let graph = mirrored_graph(&[0.0, 8.0, 16.0], &[16.0, 2.0, 0.0], 3, 2);
        assert_eq!(graph.above, ["  █", " ██"]);
        assert_eq!(graph.below, ["█▔ ", "█  "]);
    }

    #[test]
    fn nothing_is_blank_and_a_little_is_seen() {
        let graph = mirrored_graph(&[0.0, 1.0], &[1e9], 2, 1);
        assert_eq!(graph.above, [" ▁"]);
        assert_eq!(mirrored_graph(&[], &[], 4, 1).above, ["    "]);
        assert_eq!(
            mirrored_graph(&[1.0], &[1.0], 0, 0),
            MirroredGraph { above: vec![], below: vec![], highest: 0.0 }
        );
    }
}
