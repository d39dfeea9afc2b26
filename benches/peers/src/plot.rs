//! Bar charts as SVG, on a logarithmic scale: figures here span four powers of ten.

use std::fmt::Write;

/// Bars of one shape, by who they belong to.
pub struct Group {
    pub name: String,
    pub bars: Vec<(String, f64)>,
}

/// Colours that people with colour blindness can tell apart (Okabe and Ito), by who.
const COLOURS: [(&str, &str); 8] = [
    ("kvsched", "#0072b2"),
    ("kvsched (shared)", "#56b4e9"),
    ("kv-index 2.0.0", "#d55e00"),
    ("dynamo 1.6.1 RadixTree", "#009e73"),
    ("dynamo 1.6.1 CRTC", "#cc79a7"),
    ("llm-d v0.9.0 (Go)", "#787878"),
    ("naive", "#e69f00"),
    ("", "#000000"),
];

const WIDTH: f64 = 900.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 200.0;
const TOP: f64 = 64.0;
const BAR: f64 = 15.0;
const GAP: f64 = 14.0;

fn colour(who: &str) -> &'static str {
    COLOURS.iter().find(|(name, _)| *name == who || name.is_empty()).map_or("#000", |c| c.1)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// A figure with three digits that count.
pub fn digits(value: f64) -> String {
    let whole = (value.abs().max(1e-9).log10().floor() as i32).max(-2);
    let text = format!("{value:.*}", (2 - whole).clamp(0, 3) as usize);
    let (sign, number) = text.split_at(usize::from(text.starts_with('-')));
    let (before, after) = number.split_once('.').map_or((number, ""), |(b, a)| (b, a));
    let mut grouped = String::new();
    for (i, digit) in before.chars().enumerate() {
        if i > 0 && (before.len() - i) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let dot = if after.is_empty() { "" } else { "." };
    format!("{sign}{grouped}{dot}{after}")
}

/// The chart; `unit` says what a bar's length means.
pub fn bars(title: &str, unit: &str, groups: &[Group]) -> String {
    let all = || groups.iter().flat_map(|g| &g.bars).map(|b| b.1).filter(|v| *v > 0.0);
    let low = 10f64.powf(all().fold(f64::MAX, f64::min).log10().floor());
    let high = 10f64.powf(all().fold(0.0, f64::max).log10().ceil()).max(low * 10.0);
    let count: usize = groups.iter().map(|g| g.bars.len()).sum();
    let end = TOP + count as f64 * BAR + groups.len() as f64 * GAP;
    let x =
        |value: f64| LEFT + (value / low).log10() / (high / low).log10() * (WIDTH - LEFT - RIGHT);
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{0}" viewBox="0 0 {WIDTH} {0}" font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/><text x="16" y="24" font-size="16">{1}</text><text x="16" y="44" fill="#555">{2}</text>"##,
        end + 30.0,
        escaped(title),
        escaped(unit)
    );
    let mut tick = low;
    while tick <= high * 1.01 {
        let (at, label) = (x(tick), digits(tick));
        let _ = write!(
            svg,
            r##"<line x1="{at:.1}" x2="{at:.1}" y1="{TOP}" y2="{end:.1}" stroke="#ddd"/><text x="{at:.1}" y="{:.1}" text-anchor="middle" fill="#555">{label}</text>"##,
            end + 16.0
        );
        tick *= 10.0;
    }
    let mut y = TOP + GAP / 2.0;
    for group in groups {
        let middle = y + group.bars.len() as f64 * BAR / 2.0 + 4.0;
        let name = escaped(&group.name);
        let _ = write!(
            svg,
            r#"<text x="{:.1}" y="{middle:.1}" text-anchor="end">{name}</text>"#,
            LEFT - 8.0
        );
        for (who, value) in &group.bars {
            let (from, to) = (LEFT, x(value.max(low)));
            let label = format!("{} {who}", digits(*value));
            let _ = write!(
                svg,
                r#"<rect x="{from}" y="{y:.1}" width="{:.1}" height="{:.1}" fill="{}"/><text x="{:.1}" y="{:.1}" font-size="11">{}</text>"#,
                (to - from).max(1.0),
                BAR - 2.0,
                colour(who),
                to + 5.0,
                y + BAR - 4.5,
                escaped(&label)
            );
            y += BAR;
        }
        y += GAP;
    }
    svg.push_str("</svg>\n");
    svg
}
