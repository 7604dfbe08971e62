//! A moment as a date (ISO 8601, the proleptic Gregorian calendar). A leaf: attributes of spans and the command's archive
//! write their dates with it. In: seconds since the Unix epoch. Out: text in UTC, up to the seconds.

/// `2026-08-20T00:00:00`: what follows (a fraction, `Z`) is the caller's.
pub(crate) fn date_time(unix_seconds: i64) -> String {
    let (days, time) = (unix_seconds.div_euclid(86_400), unix_seconds.rem_euclid(86_400));
    // Years begin in March here, so that the leap day is a year's last; 400 of them have 146,097 days.
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (time / 3_600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}
