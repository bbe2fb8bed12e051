#![no_main]

cutout_fuzz::target!("upload");
