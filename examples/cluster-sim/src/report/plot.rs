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
    let size = (columns as u32 * 620, rows as u32 * 400);
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
    let mut builder = ChartBuilder::on(area);
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
                .draw()?;
            for line in &chart.lines {
                let colour = COLOURS[line.colour % COLOURS.len()];
                let points = line.points.iter().copied();
                if line.dots {
                    cx.draw_series(points.map(|p| Circle::new(p, 4, colour.stroke_width(2))))?
                        .label(&line.name)
                        .legend(move |(x, y)| Circle::new((x + 10, y), 4, colour.stroke_width(2)));
                } else {
                    cx.draw_series(LineSeries::new(points, colour.stroke_width(2)))?
                        .label(&line.name)
                        .legend(move |(x, y)| {
                            PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2))
                        });
                }
            }
            if chart.lines.iter().any(|l| !l.name.is_empty()) {
                cx.configure_series_labels()
                    .position(SeriesLabelPosition::UpperLeft)
                    .background_style(WHITE.mix(0.85))
                    .label_font(("sans-serif", 12))
                    .draw()?;
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
