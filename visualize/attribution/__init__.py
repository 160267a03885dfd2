"""Attribution methods: which pixels a target depends on."""
