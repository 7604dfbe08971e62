//! Both lanes tell the same: the messages of one, compared with those of the other.
