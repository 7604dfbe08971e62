#![cfg_attr(fuzzing, no_main)]

httptrace_fuzz::target!("server_timing");
