"""What is fitted on validation rows after training: temperature, label offsets, intervals, alarms, promises."""
