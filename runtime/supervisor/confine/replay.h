#include <stddef.h>
#include <stdint.h>

// replay_record makes libseccomp work as ever, and notes the calls that make up a filter.
void replay_record(void);

// replay_recorded gives what was noted: the calls, and the filter that seccomp_export_bpf(3) made of them. It returns 0,
// or -1 when no filter was exported, a call failed, or memory was short.
int replay_recorded(const uint8_t **calls, size_t *calls_len, const uint8_t **program, size_t *program_len);

// replay_arm gives the filter of a known list of calls. The memory stays the caller's and must not change.
void replay_arm(const uint8_t *calls, size_t calls_len, const uint8_t *program, size_t program_len);
