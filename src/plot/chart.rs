//! The picture itself.

use plotters::prelude::*;
use plotters::style::FontDesc;

use super::series::Series;
use crate::domain::grouped;

/// Width and height, pixels.
const SIZE: (u32, u32) = (960, 420);
const INK: RGBColor = RGBColor(0x33, 0x3b, 0x47);
const GRID: RGBColor = RGBColor(0xe3, 0xe6, 0xea);
const WINDOW: RGBColor = RGBColor(0x1f, 0x6f, 0xb4);
const LIMIT: RGBColor = RGBColor(0xc4, 0x3c, 0x2c);
const HOLD: RGBColor = RGBColor(0xf0, 0xa8, 0x2b);

type DrawingError<'a> = DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>;

pub(super) fn draw(series: &Series) -> Result<String, DrawingError<'static>> {
    let mut svg = String::new();
    draw_into(&mut svg, series)?;
    Ok(svg)
}

fn draw_into(svg: &mut String, series: &Series) -> Result<(), DrawingError<'static>> {
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let (unit, unit_seconds) = unit_of(series.end());
    let right = (series.end() / unit_seconds).max(0.1);
    let top = series.highest().max(series.limit.unwrap_or_default()) as f64 * 1.12;
    let mut chart = ChartBuilder::on(&area)
        .margin(18)
        .caption("Tokens in the last 60 seconds", text(20))
        .x_label_area_size(44)
        .y_label_area_size(76)
        .build_cartesian_2d(0.0..right, 0.0..top.max(1.0))?;
    chart
        .configure_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(INK)
        .label_style(text(14))
        .x_desc(format!("{unit} since the start"))
        .x_label_formatter(&|x| short(*x))
        .y_label_formatter(&|y| grouped(*y as u64))
        .draw()?;

    let holds = series.holds.iter().map(|(since, until)| {
        let corners = [(since / unit_seconds, 0.0), (until / unit_seconds, top)];
        Rectangle::new(corners, HOLD.mix(0.35).filled())
    });
    let drawn = chart.draw_series(holds)?;
    if !series.holds.is_empty() {
        drawn.label("held by a 429").legend(|at| swatch(at, HOLD));
    }
    let window = series.window.iter().map(|&(at, tokens)| (at / unit_seconds, tokens as f64));
    chart
        .draw_series(
            AreaSeries::new(window, 0.0, WINDOW.mix(0.18)).border_style(WINDOW.stroke_width(2)),
        )?
        .label(match series.model.as_str() {
            "" => "in use".to_owned(),
            model => format!("in use ({model})"),
        })
        .legend(|at| swatch(at, WINDOW));
    if let Some(limit) = series.limit {
        let limit = limit as f64;
        chart
            .draw_series(LineSeries::new([(0.0, limit), (right, limit)], LIMIT.stroke_width(2)))?
            .label(format!("limit ({} a minute)", grouped(limit as u64)))
            .legend(|at| swatch(at, LIMIT));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .label_font(text(14))
        .background_style(WHITE.mix(0.9))
        .border_style(GRID)
        .margin(12)
        .legend_area_size(22)
        .draw()?;
    area.present()
}

fn text(size: i32) -> TextStyle<'static> {
    FontDesc::from(("sans-serif", size)).color(&INK)
}

fn swatch((x, y): (i32, i32), color: RGBColor) -> Rectangle<(i32, i32)> {
    Rectangle::new([(x, y - 5), (x + 14, y + 5)], color.filled())
}

/// What time is counted in, and how many seconds it has.
fn unit_of(seconds: f64) -> (&'static str, f64) {
    match seconds {
        seconds if seconds < 180.0 => ("seconds", 1.0),
        seconds if seconds < 3.0 * 3_600.0 => ("minutes", 60.0),
        _ => ("hours", 3_600.0),
    }
}

/// `2` and `2.5`.
fn short(number: f64) -> String {
    let rounded = (number * 10.0).round() / 10.0;
    format!("{rounded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_shows_the_window_the_limit_and_the_holds() {
        let series = Series {
            limit: Some(200_000),
            window: (0..300).map(|at| (f64::from(at), 600 * at as u64)).collect(),
            holds: vec![(100.0, 110.0)],
            model: "<m&m>".into(),
        };
        let svg = draw(&series).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
        for words in
            ["200,000", "minutes since the start", "held by a 429", "in use (&lt;m&amp;m&gt;)"]
        {
            assert!(svg.contains(words), "{words}");
        }
        let calm = draw(&Series { holds: Vec::new(), ..series }).unwrap();
        assert!(!calm.contains("held by a 429"));
    }

    #[test]
    fn a_moment_without_a_limit_is_a_picture_too() {
        let series = Series { window: vec![(0.0, 0)], ..Series::default() };
        assert!(draw(&series).unwrap().contains("seconds since the start"));
    }
}
