//! A coloured table as SVG: the nearer to the best, the paler.

use plotters::prelude::*;
use std::path::Path;

/// One figure: what it says, and how far it is from the best, from 1 (the best) up.
#[derive(Clone, Debug)]
pub struct Cell {
    pub text: String,
    pub ratio: f64,
}

/// A table of ratios.
#[derive(Clone, Debug)]
pub struct Grid {
    pub title: String,
    pub columns: Vec<String>,
    /// Each row's name and cells.
    pub rows: Vec<(String, Vec<Cell>)>,
}

const CELL: (i32, i32) = (84, 24);
const NAMES: i32 = 140;
const HEAD: i32 = 68;

/// Writes grids one below the other.
///
/// # Errors
///
/// If the file cannot be written.
pub fn write(path: &Path, grids: &[Grid]) -> Result<(), Box<dyn std::error::Error>> {
    let height = |g: &Grid| HEAD + CELL.1 * g.rows.len() as i32 + 16;
    let columns = grids.iter().map(|g| g.columns.len()).max().unwrap_or(0) as i32;
    let size = (NAMES + CELL.0 * columns + 10, grids.iter().map(height).sum::<i32>());
    let root = SVGBackend::new(path, (size.0 as u32, size.1 as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    let text = |words: &str, x: i32, y: i32, size: i32| {
        root.draw(&Text::new(words.to_owned(), (x, y), ("sans-serif", size)))
    };
    let mut top = 0;
    for grid in grids {
        text(&grid.title, 8, top + 12, 18)?;
        for (column, name) in (0..).zip(&grid.columns) {
            text(name, NAMES + CELL.0 * column + 6, top + HEAD - 20, 12)?;
        }
        for (row, (name, cells)) in (0..).zip(&grid.rows) {
            let y = top + HEAD + CELL.1 * row;
            text(name, 8, y + 6, 13)?;
            for (column, cell) in (0..).zip(cells) {
                let x = NAMES + CELL.0 * column;
                let corners = [(x, y), (x + CELL.0 - 2, y + CELL.1 - 2)];
                root.draw(&Rectangle::new(corners, colour(cell.ratio).filled()))?;
                text(&cell.text, x + 6, y + 6, 13)?;
            }
        }
        top += height(grid);
    }
    root.present()?;
    Ok(())
}

/// White at 1, orange from ten times the best on.
fn colour(ratio: f64) -> RGBColor {
    let share = (ratio.max(1.0).log10()).min(1.0);
    let fade = |from: f64, to: f64| (from + (to - from) * share) as u8;
    RGBColor(fade(240.0, 230.0), fade(248.0, 130.0), fade(242.0, 60.0))
}
