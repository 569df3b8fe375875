//! A figure as bars, one a peer, in SVG written by hand: it needs nothing to be drawn, and shows
//! what changed in a diff.

use std::fmt::{Error, Write as _};

pub struct Chart<'a> {
    pub title: &'a str,
    /// What the bars are, with their unit.
    pub figure: &'a str,
    pub bars: Vec<(&'static str, f64)>,
    /// The most that the first bar should be.
    pub goal: Option<f64>,
}

const WIDTH: f64 = 680.0;
const LEFT: f64 = 110.0;
/// For the value behind the longest bar.
const RIGHT: f64 = 70.0;
const TOP: f64 = 54.0;
const STEP: f64 = 30.0;
const BAR: f64 = 20.0;

const STYLE: &str = "\
text { font: 13px system-ui, sans-serif; fill: #1f2328 } .title { font-weight: 600 } .small { font-size: 12px; fill: #59636e }
.peer { fill: #9aa4af } .hookgate { fill: #1a7f5a } .floor { fill: #c9d1d9 } .goal { stroke: #bc4c00; stroke-dasharray: 4 3 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .small { fill: #9198a1 }
.peer { fill: #6e7781 } .hookgate { fill: #3fb68b } .floor { fill: #444c56 } .goal { stroke: #f0883e }
}";

impl Chart<'_> {
    /// # Errors
    /// Nothing: text always grows.
    pub fn svg(&self) -> Result<String, Error> {
        let longest = self.bars.iter().map(|(_, value)| *value).chain(self.goal).fold(0.0, f64::max);
        let across = |value: f64| if longest > 0.0 { value / longest * (WIDTH - LEFT - RIGHT) } else { 0.0 };
        let bottom = TOP + STEP * self.bars.len() as f64;
        let height = bottom + if self.goal.is_some() { 22.0 } else { 6.0 };
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
             height=\"{height}\" role=\"img\">\n<style>{STYLE}</style>\n"
        );
        writeln!(svg, "<text class=\"title\" x=\"0\" y=\"16\">{}</text>", escaped(self.title))?;
        let figure = escaped(self.figure);
        writeln!(svg, "<text class=\"small\" x=\"0\" y=\"35\">{figure}; less is better</text>")?;
        for (row, (name, value)) in self.bars.iter().enumerate() {
            let y = TOP + STEP * row as f64;
            let (middle, width) = (y + BAR / 2.0 + 4.5, across(*value));
            let class = if ["hookgate", "floor"].contains(name) { name } else { "peer" };
            writeln!(svg, "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{name}</text>", LEFT - 8.0)?;
            writeln!(
                svg,
                "<rect class=\"{class}\" x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"2\"/>"
            )?;
            writeln!(svg, "<text x=\"{:.1}\" y=\"{middle}\">{}</text>", LEFT + width + 6.0, rounded(*value))?;
        }
        if let Some(goal) = self.goal {
            let x = LEFT + across(goal);
            writeln!(svg, "<path class=\"goal\" d=\"M{x:.1} {} V{bottom}\"/>", TOP - 6.0)?;
            let label = format!("goal {}", rounded(goal));
            writeln!(
                svg,
                "<text class=\"small\" x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
                bottom + 14.0
            )?;
        }
        svg += "</svg>\n";
        Ok(svg)
    }
}

/// Three digits that mean something.
pub fn rounded(value: f64) -> String {
    match value {
        _ if value >= 100.0 => format!("{value:.0}"),
        _ if value >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_fits_and_the_others_are_in_proportion() {
        let bars = vec![("hookgate", 50.0), ("haproxy", 200.0), ("floor", 0.0)];
        let svg = Chart { title: "a < b & c", figure: "cpu_us", bars, goal: Some(100.0) }.svg().unwrap();
        let widths = svg.split("<rect ").skip(1).map(|rect| {
            let from = rect.find("width=\"").unwrap() + 7;
            rect[from..].split('"').next().unwrap().parse::<f64>().unwrap()
        });
        assert_eq!(widths.collect::<Vec<_>>(), [125.0, 500.0, 0.0]);
        assert!(svg.contains("a &lt; b &amp; c") && svg.contains(">goal 100<"));
    }
}
