"""The commands of `sluice`, one file each: its options and its work. Nothing else imports them."""
