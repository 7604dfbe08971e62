//! The mutants: checks of the pool, of retries, of limits, and of what a hostile origin may do.

use crate::Mutant;

const fn m(file: &'static str, line: &'static str, without: &'static str, fails: &'static str) -> Mutant {
    Mutant { file, line, without, fails }
}

const CORE: &str = "src/pool/core.rs";
const LEND: &str = "src/pool/lend.rs";
const QUEUE: &str = "src/pool/queue.rs";
const LEARNED: &str = "src/pool/learned.rs";
const KEY: &str = "src/pool/key.rs";
const CLIENT: &str = "src/client.rs";
const BODY: &str = "src/exchange/body.rs";
const FLIGHT: &str = "src/exchange/in_flight.rs";
const EXCHANGE: &str = "src/exchange/mod.rs";
const DRIVER: &str = "src/exchange/driver.rs";
const FAILURE: &str = "src/exchange/failure.rs";
const MARKS: &str = "src/exchange/marks.rs";
const WIRE: &str = "src/exchange/wire.rs";
const SENSOR: &str = "src/exchange/sensor.rs";
const UPLOAD: &str = "src/exchange/upload.rs";
const DIAL: &str = "src/dial/mod.rs";
const TLS: &str = "src/dial/tls.rs";
const RACE: &str = "src/dial/race.rs";
const CONFIG: &str = "src/config.rs";

#[rustfmt::skip]
pub(crate) const MUTANTS: &[Mutant] = &[
    // === the pool: what is handed out ===
    m(CORE, "if «!fresh» && let Some(lease) = self.most_recently_used(", "true", "it::limits::a_retry_passes_over_what_is_idle"),
    m(CORE, "let ahead = if «fresh» { usize::MAX }", "false", "lib::pool::model::steps::a_retry_takes_no_connection_that_comes_back_while_it_dials"),
    m(CORE, "let host = self.host(key);\n        «self.retire_the_old(host, now, effects);»", "", "lib::pool::model::steps::an_http2_connection_that_is_too_old_ends_with_its_last_stream"),
    m(LEND, "let reason = if «!slot.conn.as_ref().is_some_and(Poolable::is_open)»", "false", "lib::pool::model::steps::a_connection_that_has_died_is_not_handed_out_before_its_end_is_told"),
    m(LEND, "self.idle_limit(slot).is_some_and(|timeout| «idle_time >= timeout»)", "false", "lib::pool::model::steps::a_connection_idle_for_too_long_is_not_handed_out_even_if_no_timer_ran"),
    m(LEND, "self.idle_limit(slot).is_some_and(|timeout| «idle_time >= timeout»)", "idle_time > timeout", "lib::pool::model::steps::a_connection_idle_for_too_long_is_not_handed_out_even_if_no_timer_ran"),
    m(LEND, "} else if «self.too_old(slot, now)» {\n                Some(CloseReason::LifetimeExpired)", "false", "lib::pool::model::steps::an_idle_http1_connection_that_is_too_old_is_not_handed_out_even_if_no_timer_ran"),
    m(LEND, "let reason = if «self.idle_for_too_long(&self.slots[index], now)»", "false", "lib::pool::model::steps::an_http2_connection_idle_for_too_long_is_not_handed_out_even_if_no_timer_ran"),
    m(LEND, "is_some_and(|(idle, timeout)| «idle >= timeout»)", "idle > timeout", "lib::pool::model::steps::an_http2_connection_idle_for_too_long_is_not_handed_out_even_if_no_timer_ran"),
    m(LEND, "} else if «self.is_unfair(host, taker, now)» {", "false", "lib::pool::model::steps::a_busy_http2_connection_takes_no_more_streams_while_an_older_waiter_needs_its_place"),
    m(LEND, "«now.saturating_duration_since(slot.opened) >= life»", "now.saturating_duration_since(slot.opened) > life", "lib::pool::model::steps::an_idle_http1_connection_that_is_too_old_is_not_handed_out_even_if_no_timer_ran"),
    m(CORE, "let free = self.streams.is_some_and(|(active, max)| «active < max»);", "active <= max", "lib::pool::model::steps::cold_http2_requests_share_one_connection_up_to_its_streams"),
    m(CORE, "free && «self.conn.as_ref().is_some_and(Poolable::is_open)»", "true", "lib::pool::model::steps::an_http2_connection_that_has_died_is_not_handed_out_before_its_end_is_told"),
    // === the pool: what is kept ===
    m(CORE, "let refused = if let Some(reason) = slot.draining {\n            Some(reason)\n        } else if «self.closed» {", "false", "it::limits::an_http2_connection_of_a_pool_that_was_closed_is_not_kept"),
    m(CORE, "Some(CloseReason::PoolClosed)\n        } else if «self.too_old(slot, now)» {\n            Some(CloseReason::LifetimeExpired)\n        } else if first", "false", "lib::pool::model::steps::an_http1_connection_that_is_too_old_is_not_handed_over"),
    m(CORE, "} else if «first.is_some_and(|first| self.are_others_before(host, first, now))» {", "false", "lib::pool::model::steps::a_connection_does_not_go_to_its_own_host_before_an_older_waiter_of_another"),
    m(CORE, "} else if «self.config.max_idle == 0 || self.config.max_idle_per_host == 0» {", "false", "it::pool::outcomes::what_the_pool_refuses_says_which_limit"),
    m(CORE, "} else if slot.streams.is_none() && «self.hosts[host].idle.len() >= self.config.max_idle_per_host» {", "self.hosts[host].idle.len() > self.config.max_idle_per_host", "lib::pool::model::steps::as_many_connections_of_a_host_are_kept_as_the_limit_says"),
    m(CORE, "} else if slot.streams.is_none() && «self.hosts[host].idle.len() >= self.config.max_idle_per_host» {", "self.hosts[host].idle.len() + 1 >= self.config.max_idle_per_host", "lib::pool::model::steps::as_many_connections_of_a_host_are_kept_as_the_limit_says"),
    m(CORE, "} else if «self.is_short(now)» {", "false", "lib::pool::model::steps::a_connection_that_comes_back_while_others_wait_for_its_place_makes_room"),
    m(CORE, "if «self.idle.len() >= self.config.max_idle»\n", "self.idle.len() > self.config.max_idle", "lib::pool::model::steps::the_least_recently_used_connection_of_any_host_makes_room"),
    m(CORE, "if «self.idle.len() >= self.config.max_idle»\n", "self.idle.len() + 1 >= self.config.max_idle", "lib::pool::model::steps::the_least_recently_used_connection_of_any_host_makes_room"),
    m(CORE, "let over = if «expires.is_some_and(|at| at <= now)» {", "false", "lib::pool::model::steps::a_connection_ends_when_its_idle_time_is_over"),
    m(CORE, "let over = if «expires.is_some_and(|at| at <= now)» {", "expires.is_some_and(|at| at < now)", "lib::pool::model::steps::a_connection_ends_when_its_idle_time_is_over"),
    m(CORE, "} else if entry.idle.is_some() && «dies.is_some_and(|at| at <= now)» {", "false", "lib::pool::model::steps::an_idle_connection_ends_with_its_lifetime"),
    m(CORE, "if «entry.open == 0 && entry.dialing == 0 && entry.waiters.is_empty()» {", "false", "lib::pool::model::steps::a_host_that_nobody_uses_is_forgotten"),
    m(CORE, "self.slots[index].idle = Some(now);\n        «self.idle.join(index);»", "self.idle.join(index); if false { unreachable!() }; if self.slots[index].streams.is_none() { self.slots[index].idle = None; }", "hostile: has 100 fields"),
    // === the pool: who dials, who waits ===
    m(CORE, "if last && «self.coalesces(ticket.host, now)» {", "false", "lib::pool::model::steps::a_failed_cold_dial_is_told_to_all_who_waited_for_it"),
    m(CORE, "if last && «self.coalesces(ticket.host, now)» {", "true", "lib::pool::model::steps::a_failed_dial_to_an_http1_origin_is_its_own_and_the_next_in_the_queue_dials"),
    m(CORE, "if «self.is_waiting(ticket)» {\n            self.queue", "false", "lib::pool::model::any_sequence_of_steps_keeps_the_promises"),
    m(CORE, "if «!self.hosts[host].undialed.is_empty()» {", "false", "lib::pool::model::steps::who_hoped_for_a_connection_that_another_took_is_told_what_it_waits_for"),
    m(CORE, "if let Some((active, _)) = &mut entry.streams {\n            «*active = active.saturating_sub(1);»", "", "lib::pool::model::steps::an_http2_connection_that_is_too_old_ends_with_its_last_stream"),
    m(CORE, "if let Some((_, limit)) = &mut entry.streams {\n                «*limit = max;»", "", "it::pool::limits::requests_above_the_streams_of_a_connection_wait_or_get_another_one_if_it_is_allowed"),
    m(CORE, "now.saturating_duration_since(since));\n            «self.withdraw(slot.index);»\n            self.slots[slot.index].draining", "", "it::pool::outcomes::after_a_goaway_who_waits_for_a_stream_dials_at_once_and_nothing_is_lost"),
    m(CORE, "«self.withdraw(slot.index);»\n        self.returned(slot.index);\n        let Slot", "", "hostile: closes an idle connection"),
    m(CORE, "«self.hosts[host].open -= 1;»", "", "lib::pool::model::steps::a_closed_connection_under_a_cap_lets_the_next_waiter_dial"),
    m(CORE, "let insists = «host.learned.is_some_and(|learned| learned.insists(now))»;", "false", "lib::pool::model::steps::a_host_that_refuses_http2_is_offered_http1_for_ten_minutes"),
    m(CORE, "if «insists» {\n                // It was on its way", "false", "lib::pool::model::steps::an_http2_connection_that_comes_too_late_for_a_host_that_refuses_it_serves_nobody_else"),
    m(CORE, "for index in self.hosts[host].shared.clone() {\n            «self.retire(index, CloseReason::GoAway, effects);»", "", "lib::pool::model::steps::a_host_that_refuses_http2_is_offered_http1_for_ten_minutes"),
    m(LEARNED, "«now.saturating_duration_since(self.at) < REMEMBER_PROTOCOL»", "true", "lib::pool::model::steps::an_origins_http1_is_remembered_for_ten_minutes_without_a_connection"),
    m(LEARNED, "«now.saturating_duration_since(self.at) < REMEMBER_PROTOCOL»", "now.saturating_duration_since(self.at) <= REMEMBER_PROTOCOL", "lib::pool::model::steps::a_host_that_refuses_http2_is_offered_http1_for_ten_minutes"),
    m(LEARNED, "if «self.0.len() >= MOST» {", "false", "lib::pool::learned::tests::there_are_never_more_than_the_limit_and_the_newest_stay"),
    m(QUEUE, "if !host.shared.is_empty() && «host.shared.len() + host.dialing >= self.config.http2_max_connections_per_host» {", "false", "it::pool::limits::requests_above_the_streams_of_a_connection_wait_or_get_another_one_if_it_is_allowed"),
    m(QUEUE, "if !host.shared.is_empty() && «host.shared.len() + host.dialing >= self.config.http2_max_connections_per_host» {", "host.shared.len() + host.dialing > self.config.http2_max_connections_per_host", "lib::pool::model::steps::another_http2_connection_is_dialled_when_the_streams_are_used_up_and_it_is_allowed"),
    m(QUEUE, "if «host.returning >= undialed» {", "false", "lib::pool::model::steps::a_connection_that_is_just_coming_back_is_waited_for_and_not_doubled"),
    m(QUEUE, "if «host.dialing > 0 && self.coalesces(index, now)» {\n            return", "false", "lib::pool::model::steps::cold_https_requests_wait_for_one_dial_and_http1_lets_them_all_dial"),
    m(QUEUE, "if self.config.max_connections_per_host.is_some_and(|max| «host.open + host.dialing >= max») {", "false", "it::pool::limits::ten_requests_under_a_limit_of_one_make_one_dial_and_are_served_in_their_order"),
    m(QUEUE, "if self.config.max_connections_per_host.is_some_and(|max| «host.open + host.dialing >= max») {", "host.open + host.dialing > max", "lib::pool::model::steps::as_many_connections_of_a_host_are_open_as_the_cap_says"),
    m(QUEUE, "if self.config.max_connections_per_host.is_some_and(|max| «host.open + host.dialing >= max») {", "host.open + host.dialing + 1 >= max", "lib::pool::model::steps::as_many_connections_of_a_host_are_open_as_the_cap_says"),
    m(QUEUE, "self.config.max_connections.is_some_and(|max| «self.busy() >= max»)\n    }\n\n    /// How many more", "self.busy() > max", "lib::pool::model::steps::an_idle_connection_of_another_host_makes_room_under_the_pools_limit"),
    m(QUEUE, "«self.config.always_shares» ||", "false", "it::limits::a_hundred_streams_are_opened_before_the_settings_say_how_many_there_may_be"),
    m(QUEUE, "&& self.config.may_share && «!is_http1»)", "true", "lib::pool::model::steps::cold_https_requests_wait_for_one_dial_and_http1_lets_them_all_dial"),
    m(QUEUE, "host.key.https && «self.config.may_share» &&", "true", "it::dialing::cold::parallel_cold_requests_dial_at_once_whatever_the_protocol"),
    m(QUEUE, "if «!used || !self.config.late_binding || entry.wary.is_empty()» {", "true", "lib::pool::model::steps::a_retry_takes_no_connection_that_comes_back_while_it_dials"),
    m(QUEUE, "match «self.config.late_binding» {\n            true => host.waiters", "true", "lib::pool::model::steps::without_late_binding_who_dials_waits_for_its_own_dial"),
    m(KEY, "self.https == other.https && «self.port == other.port» &&", "true", "lib::pool::key::tests::case_and_default_port_do_not_tell_origins_apart"),
    m(KEY, "«self.https == other.https» && self.port", "true", "lib::pool::key::tests::an_origin_is_its_scheme_its_host_and_its_port"),
    m(KEY, "host == other || «host.eq_ignore_ascii_case(other)»", "true", "lib::pool::key::tests::an_origin_is_its_scheme_its_host_and_its_port"),
    // === whether a used connection is fit, and what may be sent again ===
    m(CLIENT, "match «lease.conn.is_fresh().await» {", "Ok::<(), crate::hooks::CloseReason>(())", "it::pool::looks::an_end_or_bytes_that_nobody_has_read_yet_are_seen_before_a_post_is_sent"),
    m(EXCHANGE, "Waiting::End => «return Err(CloseReason::PeerClosed)»,", "return Ok(())", "it::pool::looks::an_end_or_bytes_that_nobody_has_read_yet_are_seen_before_a_post_is_sent"),
    m(EXCHANGE, "looks == MAX_LOOKS => {\n                    «return Err(CloseReason::SurplusBytes);»", "return Ok(());", "it::pool::looks::an_end_or_bytes_that_nobody_has_read_yet_are_seen_before_a_post_is_sent"),
    m(CLIENT, "if «answered» {\n            return Err(error);", "false", "hostile: refuses the stream behind 103"),
    m(CLIENT, "let lost = «matches!(error.kind(), Kind::ConnectionClosed | Kind::ConnectionReset | Kind::WriteFailed)»;", "true", "hostile: never answers a second request"),
    m(CLIENT, "let harmless = «!touched || is_idempotent(&self.head.method, self.fields.as_deref())»;", "true", "it::like_go::reuse::a_request_on_a_stale_connection_is_sent_again_if_that_does_no_harm_and_can_be_done"),
    m(CLIENT, "«matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)»", "true", "it::like_go::reuse::a_request_on_a_stale_connection_is_sent_again_if_that_does_no_harm_and_can_be_done"),
    m(CLIENT, "«matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)»", "matches!(*method, Method::GET)", "lib::client::tests::what_may_be_sent_twice_is_told_by_its_method_or_its_key"),
    m(CLIENT, "fields.is_some_and(|fields| «fields.contains_key(\"idempotency-key\")»)", "false", "lib::client::tests::what_may_be_sent_twice_is_told_by_its_method_or_its_key"),
    m(CLIENT, "(None, true) if lost && «harmless» => RetryReason::Http11Required,", "true", "it::fallback::what_the_server_may_have_done_is_not_sent_twice"),
    m(CLIENT, "if !stream_wants_http1 && «self.retries < MAX_REFUSED» => reason,", "true", "hostile: refuses the stream four times"),
    m(CLIENT, "if !stream_wants_http1 && «self.retries < MAX_REFUSED» => reason,", "false", "hostile: goes away below the request, code 7"),
    m(CLIENT, "(None, _) if «used» && lost", "true", "hostile: closes behind the request (HTTP/2)"),
    m(CLIENT, "harmless && «self.retries == 0» => RetryReason::StaleConnection", "true", "it::limits::a_request_that_meets_two_stale_connections_is_sent_twice_at_most"),
    m(CLIENT, "fresh = «reason == RetryReason::StaleConnection»;", "false", "it::limits::a_retry_passes_over_what_is_idle"),
    m(CLIENT, "let may = «self.key.https && self.inner.dialer.tls.may_fall_back()»;", "true", "it::fallback::who_may_speak_http2_only_is_told_of_the_refusal"),
    m(CLIENT, "«self.inner.pool.insists_on_http1(&self.key);»", "", "it::fallback::an_origin_that_refused_http2_is_not_offered_it_again"),
    m(TLS, "«listed» && self.0.protocol == ProtocolChoice::Alpn", "true", "it::fallback::an_own_list_of_protocols_is_kept_to"),
    m(DIAL, "if «http1_only» {", "false", "it::fallback::what_is_refused_over_http2_is_sent_once_more_over_http1"),
    m(CLIENT, "if «!busy || self.retries < 2» {", "true", "it::limits::refusals_are_followed_by_pauses_that_end_with_the_request"),
    m(CLIENT, "[self.deadline, limit.filter(|_| «progress.is_none()»)]", "true", "it::pool::limits::a_dial_of_its_own_is_no_wait_in_the_queue"),
    // === what a response makes of its connection ===
    m(BODY, "if «status == StatusCode::SWITCHING_PROTOCOLS» ||", "false", "hostile: switches protocols unasked"),
    m(BODY, "«is_connect && status.is_success()» {", "false", "lib::exchange::body::tests::a_response_says_whether_its_connection_can_be_used_again"),
    m(BODY, "} else if «version < Version::HTTP_11» {", "false", "lib::exchange::body::tests::a_response_says_whether_its_connection_can_be_used_again"),
    m(BODY, "} else if «asks_to_close(headers)» {", "false", "lib::exchange::body::tests::a_response_says_whether_its_connection_can_be_used_again"),
    m(BODY, "value.split(',').any(|token| «token.trim().eq_ignore_ascii_case(\"close\")»)", "token == \"close\"", "lib::exchange::body::tests::a_response_says_whether_its_connection_can_be_used_again"),
    m(BODY, "} else if «headers.contains_key(http::header::TRANSFER_ENCODING)\n        && headers.contains_key(http::header::CONTENT_LENGTH)»\n", "false", "hostile: has a length beside chunked"),
    m(FLIGHT, "close = close.or(«asks.to_close.then_some(CloseReason::ConnectionClose)»);", "None", "it::pool::outcomes::an_asked_for_close_is_a_close_by_the_client"),
    m(MARKS, "if «status.as_u16() >= 400» {", "false", "it::interim::an_expectation_that_is_refused_sends_no_body_and_delivers_the_answer"),
    m(DRIVER, "while «self.drained <= DRAIN_BYTES» {", "true", "it::limits::as_much_of_a_dropped_body_is_read_as_the_limit_says"),
    m(DRIVER, "while «self.drained <= DRAIN_BYTES» {", "self.drained <= DRAIN_BYTES / 2", "it::limits::as_much_of_a_dropped_body_is_read_as_the_limit_says"),
    m(DRIVER, "patience.as_mut().poll(cx).map(|()| «Err(reason)»)", "{ let _ = reason; Ok(()) }", "it::pool::outcomes::what_an_application_leaves_unread_and_an_upload_leaves_unsent_are_told_apart"),
    // === limits of what comes ===
    m(MARKS, "«marks.interims > self.terms.max_informational»\n", "marks.interims >= self.terms.max_informational", "hostile: sends 103 50 times"),
    m(MARKS, "«marks.interims > self.terms.max_informational»\n", "false", "hostile: sends 103 51 times"),
    m(MARKS, "if «bytes > self.terms.max_head_bytes» {", "false", "hostile: has a field of 260 KiB"),
    m(MARKS, "if «bytes > self.terms.max_head_bytes» {", "bytes > 200_000", "hostile: has a field of 250 KiB in HTTP/2"),
    m(EXCHANGE, "builder.max_header_size(«config.max_head_bytes»);", "200_000", "hostile: has a head of 255 KiB"),
    m(EXCHANGE, "builder.max_header_size(«config.max_head_bytes»);", "1 << 20", "hostile: has a head of 257 KiB"),
    m(EXCHANGE, "if «config.max_headers != 100» {", "{ builder.max_headers(99); false }", "hostile: has 100 fields"),
    m(FLIGHT, "if «response.headers().len() > body.ending.exchange.terms().max_headers» => {", "response.headers().len() >= body.ending.exchange.terms().max_headers", "hostile: has 100 fields in HTTP/2"),
    m(FLIGHT, "if «response.headers().len() > body.ending.exchange.terms().max_headers» => {", "false", "hostile: has 101 fields in HTTP/2"),
    m(BODY, "trailers.is_some_and(|trailers| «trailers.len() > self.ending.exchange.terms().max_headers»)", "trailers.len() >= self.ending.exchange.terms().max_headers", "hostile: has 100 trailers"),
    m(BODY, "trailers.is_some_and(|trailers| «trailers.len() > self.ending.exchange.terms().max_headers»)", "false", "hostile: has 101 trailers in HTTP/2"),
    m(EXCHANGE, "builder.keep_alive_timeout(«keep_alive.timeout»);", "Duration::from_secs(3600)", "hostile: says nothing behind the preface, and no ping is answered"),
    m(EXCHANGE, "builder.initial_stream_window_size(«stream»);", "65_535_u32", "it::limits::what_lies_unread_is_bounded_by_the_windows"),
    m(EXCHANGE, "builder.initial_connection_window_size(«connection»);", "16_777_216_u32", "it::limits::what_lies_unread_is_bounded_by_the_windows"),
    m(DRIVER, "!= max {\n                    «self.shared.home().max_streams(max);»", "", "hostile: never allows another stream"),
    m(UPLOAD, "May::Wait(since.map(|since| «since + timeout»))", "since + 10 * timeout", "it::limits::a_body_waits_a_second_for_100_continue_by_default_and_no_longer"),
    // === dials ===
    m(DIAL, "let addrs = order.map_err(Error::clone)?.into_iter().map(|addr| SocketAddr::new(addr, place.port));\n        Ok((addrs.take(«self.config.max_addresses»)", "usize::MAX", "it::dialing::racing::no_more_than_sixteen_addresses_are_tried_and_both_families_are_among_them"),
    m(DIAL, "let addrs = order.map_err(Error::clone)?.into_iter().map(|addr| SocketAddr::new(addr, place.port));\n        Ok((addrs.take(«self.config.max_addresses»)", "15", "it::dialing::racing::no_more_than_sixteen_addresses_are_tried_and_both_families_are_among_them"),
    m(DIAL, "let addrs = order.into_iter().map(|addr| SocketAddr::new(addr, place.port));\n            return Ok((addrs.take(«self.config.max_addresses»)", "usize::MAX", "it::limits::of_the_addresses_that_are_given_no_more_than_sixteen_are_tried"),
    m(DIAL, "let usable = answer.addrs.iter().copied().filter(|addr| «self.config.may_try(*addr)»);", "true", "it::dialing::racing::one_version_of_ip_is_all_that_is_tried_where_it_is_wanted"),
    m(RACE, "if «!family.contains(&addr)» {", "true", "lib::dial::race::tests::no_address_is_tried_twice_in_another_spelling"),
    m(RACE, "Some(delay) => «tokio::time::sleep(delay).await»,", "pending().await", "lib::dial::connect::tests::a_silent_first_address_costs_its_head_start_and_not_the_timeout"),
    m(RACE, "None => «pending().await»,", "()", "lib::dial::connect::tests::without_a_race_each_address_has_its_share_of_the_time"),
    m(RACE, "«errors.sort_by_key(|(number, _)| *number);»", "", "lib::dial::connect::tests::the_error_is_that_of_the_first_address_that_was_reached_for"),
    m(RACE, "while «open.last().is_some_and(|(number, _)| *number == newest)» {", "!open.is_empty()", "lib::dial::connect::tests::each_attempt_starts_when_it_may_and_the_earliest_success_wins"),
    m(TLS, "let deadline = deadline.min(«crate::clock::now() + limit»);", "{ let _ = limit; deadline }", "it::failures::connecting::the_handshake_timeout_ends_a_handshake_that_does_not_answer"),
    m(DIAL, "match (self.protocol, «tls.alpn.as_deref()») {", "None::<&str>", "hostile: agrees on HTTP/2 and speaks it"),
    // === defaults ===
    m(CONFIG, "idle_timeout: Some(«Duration::from_secs(90)»),", "Duration::from_secs(91)", "lib::pool::model::steps::the_pool_keeps_256_idle_connections_for_90_seconds_and_no_more_and_no_longer"),
    m(CONFIG, "idle_timeout: Some(«Duration::from_secs(90)»),", "Duration::from_secs(89)", "lib::pool::model::steps::the_pool_keeps_256_idle_connections_for_90_seconds_and_no_more_and_no_longer"),
    m(CONFIG, "max_idle: «256»,", "255", "lib::pool::model::steps::the_pool_keeps_256_idle_connections_for_90_seconds_and_no_more_and_no_longer"),
    m(CONFIG, "max_idle: «256»,", "257", "lib::pool::model::steps::the_pool_keeps_256_idle_connections_for_90_seconds_and_no_more_and_no_longer"),
    m(CONFIG, "racing_delay: Some(«Duration::from_millis(250)»),", "Duration::from_millis(300)", "lib::config::tests::the_defaults_are_those_that_are_written_down"),
    m("src/pool/mod.rs", "Protocol::Http2 => Some(«100»),", "101", "it::limits::a_hundred_streams_are_opened_before_the_settings_say_how_many_there_may_be"),
    m(CONFIG, "max_addresses: «16»,", "17", "it::dialing::racing::no_more_than_sixteen_addresses_are_tried_and_both_families_are_among_them"),
    m(CONFIG, "max_informational: «50»,", "51", "hostile: sends 103 51 times"),
    m(CONFIG, "max_head_bytes: «256 * 1024»,", "300 * 1024", "hostile: has a head of 257 KiB"),
    m(CONFIG, "http2_max_connections_per_host: «1»,", "2", "it::limits::a_hundred_streams_are_opened_before_the_settings_say_how_many_there_may_be"),
    // === hostile origins ===
    m(SENSOR, "self.wire.peer_ended();\n                }\n                «Poll::Ready(Ok(()))»", "Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()))", "hostile: has no length, and ends"),
    m(WIRE, "self.http2(|streams| «{\n                    streams.record.goaway = Some(GoAway { last_stream, error_code: code });\n                    self.leaving.store(true, Ordering::Release);\n                }»);", "()", "hostile: goes away behind the response"),
    m(DRIVER, "self.draining = true;\n                    «self.shared.home().draining();»", "", "it::pool::outcomes::after_a_goaway_who_waits_for_a_stream_dials_at_once_and_nothing_is_lost"),
    m(DRIVER, "if «wire.is_leaving() && !wire.is_released()» {\n            self.leaving", "false", "it::pool::outcomes::goaway_and_a_connections_death_are_told_once_to_each_stream"),
    m(FAILURE, "if «h2.is_some_and(|h2| h2.is_remote() && h2.reason() == Some(h2::Reason::REFUSED_STREAM))» {", "false", "hostile: refuses the stream once"),
    m(FAILURE, "let above = marks.stream_id.map_or(!marks.dispatched, |stream| «stream > last»);", "stream >= last", "hostile: goes away and closes"),
    m(FLIGHT, "let bodiless = «asks.is_head || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)»;", "false", "hostile: has a body behind 204 in HTTP/2"),
    m(CORE, "} else if «self.config.max_idle == 0 || self.config.max_idle_per_host == 0» {", "true", "hostile: has 100 fields"),
    m(EXCHANGE, "let said_so = «reason == CloseReason::PeerClosed && self.wire.is_leaving()»;", "false", "hostile: goes away behind the response"),
    m(FAILURE, "if «trailers» { Kind::HeadTooLarge }", "false", "hostile: has 101 different trailers"),
    m(FAILURE, "bytes that no request asked for.\n        «CloseReason::SurplusBytes»", "CloseReason::IoError", "hostile: smuggles a second response"),
    m(FAILURE, "let Err(error) = result else { «return CloseReason::PeerClosed» };", "return CloseReason::IoError", "hostile: closes an idle connection"),
    m(FAILURE, "if is_end(error) { CloseReason::PeerClosed } else { «CloseReason::IoError» }\n    } else if error.is_canceled()", "CloseReason::PeerClosed", "hostile: resets an idle connection"),
    m(BODY, "} else if «asks_to_close(headers)» {", "false", "hostile: has no reason"),
    m(DRIVER, "«self.shared.home().closed(reason, self.shared.answered.load(Ordering::Relaxed));»", "", "hostile: answers byte by byte, and ends"),
];
