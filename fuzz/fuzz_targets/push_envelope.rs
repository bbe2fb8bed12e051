#![no_main]

cutout_fuzz::target!("push_envelope");
