//! Line charts as SVG.

use plotters::coord::Shift;
use plotters::prelude::*;
use std::path::Path;

/// One line.
#[derive(Clone, Debug)]
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
    /// Drawn with points only, to tell published figures from ours.
    pub dots: bool,
    /// Which colour; lines of one policy share it.
    pub colour: usize,
}

/// One chart.
#[derive(Clone, Debug)]
pub struct Chart {
    pub title: String,
    pub x: String,
    pub y: String,
    /// A logarithmic y axis from its first to its second value.
    pub log: Option<(f64, f64)>,
    pub lines: Vec<Line>,
}

/// At most about `points` of a line's points, each the highest of those it stands for.
pub fn highest(line: impl Iterator<Item = (f64, f64)>, points: usize) -> Vec<(f64, f64)> {
    let all: Vec<(f64, f64)> = line.collect();
    let each = all.len().div_ceil(points.max(1)).max(1);
    let top = |part: &[(f64, f64)]| part.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1));
    all.chunks(each).filter_map(top).collect()
}

type Error = Box<dyn std::error::Error>;

/// Colours that people with colour blindness can tell apart (Okabe and Ito).
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(120, 120, 120),
    RGBColor(0, 0, 0),
];

/// Writes charts one below the other, `columns` side by side.
///
/// # Errors
///
/// If the file cannot be written.
pub fn write(path: &Path, charts: &[Chart], columns: usize) -> Result<(), Error> {
    let rows = charts.len().div_ceil(columns);
    let size = (columns as u32 * 680, rows as u32 * 400);
    let root = SVGBackend::new(path, size).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, chart) in root.split_evenly((rows, columns)).iter().zip(charts) {
        draw(area, chart)?;
    }
    root.present()?;
    Ok(())
}

fn draw(area: &DrawingArea<SVGBackend<'_>, Shift>, chart: &Chart) -> Result<(), Error> {
    let points = || chart.lines.iter().flat_map(|l| &l.points);
    let right = points().map(|p| p.0).fold(0.0, f64::max);
    let top = points().map(|p| p.1).fold(0.0, f64::max) * 1.08;
    // The legend stands beside the lines, not on them.
    let named: Vec<&Line> = chart.lines.iter().filter(|l| !l.name.is_empty()).collect();
    let (width, _) = area.dim_in_pixel();
    let room = if named.is_empty() { 0 } else { LEGEND };
    let (area, beside) = area.split_horizontally(width - room);
    legend(&beside, &named)?;
    let mut builder = ChartBuilder::on(&area);
    builder
        .caption(&chart.title, ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(36)
        .y_label_area_size(58);
    macro_rules! lines {
        ($cx:expr) => {{
            let mut cx = $cx;
            cx.configure_mesh()
                .x_desc(&chart.x)
                .y_desc(&chart.y)
                .light_line_style(WHITE)
                .bold_line_style(BLACK.mix(0.12))
                .label_style(("sans-serif", 13))
                .x_label_formatter(&short)
                .y_label_formatter(&short)
                .draw()?;
            for line in &chart.lines {
                let colour = COLOURS[line.colour % COLOURS.len()];
                let points = line.points.iter().copied();
                if line.dots {
                    cx.draw_series(points.map(|p| Circle::new(p, 4, colour.stroke_width(2))))?;
                } else {
                    cx.draw_series(LineSeries::new(points, colour.stroke_width(2)))?;
                }
            }
        }};
    }
    match chart.log {
        Some((from, to)) => {
            lines!(builder.build_cartesian_2d(0.0..right, (from..to).log_scale())?)
        }
        None => lines!(builder.build_cartesian_2d(0.0..right, 0.0..top.max(1e-9))?),
    }
    Ok(())
}

/// Pixels of the legend.
const LEGEND: u32 = 170;

fn legend(area: &DrawingArea<SVGBackend<'_>, Shift>, lines: &[&Line]) -> Result<(), Error> {
    for (i, line) in lines.iter().enumerate() {
        let (colour, y) = (COLOURS[line.colour % COLOURS.len()], 50 + 18 * i as i32);
        if line.dots {
            area.draw(&Circle::new((12, y), 4, colour.stroke_width(2)))?;
        } else {
            area.draw(&PathElement::new([(2, y), (22, y)], colour.stroke_width(2)))?;
        }
        area.draw(&Text::new(line.name.clone(), (28, y - 6), ("sans-serif", 12)))?;
    }
    Ok(())
}

/// A number without digits that say nothing.
fn short(x: &f64) -> String {
    format!("{}", (x * 1000.0).round() / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::highest;

    #[test]
    fn peaks_survive_fewer_points() {
        let line = (0..1000).map(|i| (f64::from(i), if i == 500 { 9.0 } else { 1.0 }));
        let fewer = highest(line, 100);
        assert_eq!(fewer.len(), 100);
        assert!(fewer.contains(&(500.0, 9.0)));
        assert!(fewer.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(highest([(1.0, 2.0)].into_iter(), 100), [(1.0, 2.0)]);
        assert!(highest(std::iter::empty(), 100).is_empty());
    }
}
