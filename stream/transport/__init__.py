"""Our Faust transport: a message for all records that a poll brought, and what may be committed."""
