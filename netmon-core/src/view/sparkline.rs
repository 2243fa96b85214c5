//! A series as a line of blocks.

/// The last `width` values of a series as blocks of eight heights, the highest value full; blanks where it is shorter.
///
/// ```
/// assert_eq!(netmon_core::view::sparkline(&[0.0, 4.0, 8.0], 3), "▁▅█");
/// assert_eq!(netmon_core::view::sparkline(&[], 3), "   ");
/// ```
pub fn sparkline(values: &[f64], width: usize) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

    let shown = &values[values.len().saturating_sub(width)..];
    let highest = shown.iter().copied().fold(0.0, f64::max);
    let blank = std::iter::repeat_n(' ', width - shown.len());
    let block = |value: &f64| {
        if highest <= 0.0 {
            return BLOCKS[0];
        }
        // From 0 to 7, rounded to the nearest; a share is never outside of 0 to 1.
        let step = (value.max(0.0) / highest * 7.0).round();
        BLOCKS
            .iter()
            .enumerate()
            .find(|(index, _)| *index as f64 >= step)
            .map_or(BLOCKS[7], |(_, block)| *block)
    };
    blank.chain(shown.iter().map(block)).collect()
}
